"""Decoded sets on disk, so that each is decoded once.

An entry is a directory of plain .npy files and a `meta.json`. Its name holds a hash of all
that the arrays depend on, so a changed source is another entry and nothing is ever
invalidated. An entry appears by one rename, so a reader never sees half of one. Deleting
the directory is always safe. A cache that cannot be written only costs time.
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

# Raise it when a decoder gives other pixels, labels or orders than before.
DECODE_VERSION = 1

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

logger = logging.getLogger(__name__)


def key(spec: str, *, files: Iterable[Path], settings: Sequence[Any] = ()) -> str:
    """The entry's name: readable, with a hash of the spec, the files' state and `settings`.

    A file's state is its path, size and time of modification.
    """
    digest = hashlib.sha256(json.dumps([DECODE_VERSION, spec, list(settings)]).encode())
    for path in files:
        try:
            stat = path.stat()
        except OSError:
            continue  # The reader has the better message for a file that is not there.
        state = f"\0{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
        digest.update(state.encode("utf-8", "surrogateescape"))  # names need not be UTF-8
    readable = re.sub(r"[^A-Za-z0-9]+", "_", spec).strip("_")[-40:]
    return f"{readable}-{digest.hexdigest()[:24]}"


def fetch(cache_dir: Path, key: str, decode: Callable[[], Decoded]) -> Decoded:
    """The entry `key`, or what `decode` returns, which is kept for the next time.

    Arrays from the cache are mapped into memory, not copied. A damaged entry is decoded
    and written again.
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
            if not entry.is_dir():  # Otherwise another process was faster: its entry is as good.
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
    # In place: a view of the same memory as bytes.
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)
