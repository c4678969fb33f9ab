"""Disk cache of decoded datasets.

An entry is a directory of .npy files and a `meta.json`. Its name contains a hash of everything that
the arrays depend on, so a changed source gets a new entry and nothing needs invalidation. An entry
is created by a single rename, so that readers never see part of one. Deleting the directory is
always safe. A cache that cannot be written only costs time.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtl_jax.data.dataset import Decoded, ImageSet
from rtl_jax.errors import UserError

# Increase this when a decoder returns different pixels, labels or orders than before.
DECODE_VERSION = 1

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

logger = logging.getLogger(__name__)


def key(spec: str, *, files: Iterable[Path], settings: Sequence[Any] = ()) -> str:
    """Return a readable entry name with a hash of the spec, the files' state and `settings`.

    A file's state is its path, size and modification time.
    """
    digest = hashlib.sha256(json.dumps([DECODE_VERSION, spec, list(settings)]).encode())
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            continue  # The reader has a better message for a missing file.
        state = f"\0{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
        digest.update(state.encode("utf-8", "surrogateescape"))  # names need not be UTF-8
    readable = re.sub(r"[^A-Za-z0-9]+", "_", spec).strip("_")[-40:]
    return f"{readable}-{digest.hexdigest()[:24]}"


def fetch(cache_dir: Path, key: str, decode: Callable[[], Decoded]) -> Decoded:
    """Return the entry `key`, calling `decode` and storing its result if there is none.

    Arrays from the cache are memory-mapped, not copied. A damaged entry is decoded and written
    again.
    """
    entry = cache_dir / "decoded" / key
    found = _read(entry)
    if found is not None:
        return found
    decoded = decode()
    if len(decoded.train) or len(decoded.test):
        _write(entry, decoded)
    return decoded


def _read(entry: Path) -> Decoded | None:
    if not entry.is_dir():
        return None
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        arrays = []
        for name in ARRAYS:
            array = np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if _checksum(array) != meta["crc32"][name]:
                raise ValueError(f"{name}.npy is damaged")
            arrays.append(array)
        train, test = ImageSet(*arrays[:2]), ImageSet(*arrays[2:])
        return Decoded(train, test, tuple(meta["class_names"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, UserError) as error:
        logger.warning("the cache entry %s is damaged (%s): decoding again", entry, error)
        return None


def _write(entry: Path, decoded: Decoded) -> None:
    halves = (decoded.train, decoded.test)
    arrays = [array for half in halves for array in (half.images, half.labels)]
    scratch: Path | None = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{entry.name}.part-", dir=entry.parent))
        crc32 = {}
        for name, array in zip(ARRAYS, arrays, strict=True):
            contiguous = np.ascontiguousarray(array)
            np.save(scratch / f"{name}.npy", contiguous)
            crc32[name] = _checksum(contiguous)
        meta = {"class_names": list(decoded.class_names), "crc32": crc32}
        (scratch / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        if entry.is_dir() and _read(entry) is None:
            shutil.rmtree(entry, ignore_errors=True)
        try:
            os.rename(scratch, entry)
        except OSError:
            if not entry.is_dir():  # Otherwise another process was faster, with the same entry.
                raise
    except OSError as error:
        logger.warning(
            "the decoded images cannot be kept in %s (%s): they will be decoded at every start; "
            "free some space, or name another directory in RTL_JAX_CACHE_DIR",
            entry.parent,
            error.strerror or error,
        )
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _checksum(array: np.ndarray) -> int:
    # Without a copy: a view of the same memory as bytes.
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)
