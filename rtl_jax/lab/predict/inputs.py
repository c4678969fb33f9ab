"""The pictures to predict: those in a folder, matching a pattern, or listed in a text file.

Paths are streamed in a fixed order, holding at most those of one folder or pattern in memory.
"""

import glob
import hashlib
import itertools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rtl_jax.data import depth, pictures
from rtl_jax.data.folder import PICTURES, UNREADABLE
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import printable

_AHEAD = 2  # batches that are decoded while one is computed
_SAMPLED = 64  # pictures that are inspected beforehand


class DecodedFiles(NamedTuple):
    """Files, each with its pixels, uint8 [S, S, 3], or the reason why there are none."""

    files: list[Path]
    pixels: list[np.ndarray | str]


def paths(images: str) -> Iterator[Path]:
    """Iterate over the files that `predict.images` names.

    For a folder, these are the pictures in it and below, by their extensions; for a pattern (with
    * ? or [), the matching files, sorted; for a .txt file, the path on each line, relative to the
    file's folder. Any other file is a picture itself. Raises UserError if nothing has that name.
    """
    place = Path(images).expanduser()
    if images and place.is_dir():
        return _below(place)
    if place.suffix.lower() == ".txt" and place.is_file():
        return _listed(place)
    if place.is_file():
        return iter([place])
    if glob.has_magic(images):
        return map(Path, sorted(glob.glob(os.path.expanduser(images), recursive=True)))
    raise UserError(
        f"predict.images: expected a folder, a pattern such as 'photos/*.jpg' or a .txt file with "
        f"a path on each line; there is no {images!r}"
    )


def look_through(images: str) -> tuple[int, str]:
    """Return the number of files and a digest of their paths, sizes and modification times.

    Raises UserError as `paths`, if there are no files, or if the first pictures have 16 bits and
    use only a part of their range.
    """
    number, digest = 0, hashlib.sha256()
    sample: list[Path] = []
    for path in paths(images):
        number += 1
        digest.update(os.fsencode(path) + b"\0")
        if number <= _SAMPLED:
            sample.append(path)
        try:
            stat = path.stat()
        except OSError:
            continue  # becomes a row that says so
        digest.update(f"{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    if not number:
        raise UserError(f"predict.images: expected images, and {images!r} has none")
    depth.check_files(sample, printable(images))
    return number, digest.hexdigest()


def decoded(files: Iterator[Path], image_size: int, batch_size: int) -> Iterator[DecodedFiles]:
    """Yield batches of decoded pictures; threads decode the next ones meanwhile."""
    waiting: deque[tuple[list[Path], list[Future]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            while True:
                while len(waiting) <= _AHEAD and (
                    batch := list(itertools.islice(files, batch_size))
                ):
                    jobs = [pool.submit(_try_decode, file, image_size) for file in batch]
                    waiting.append((batch, jobs))
                if not waiting:
                    return
                batch, jobs = waiting.popleft()
                yield DecodedFiles(batch, [job.result() for job in jobs])
        finally:
            pool.shutdown(cancel_futures=True)


def _try_decode(path: Path, image_size: int) -> np.ndarray | str:
    try:
        return pictures.decode(path, image_size)
    except pictures.BROKEN as error:
        return pictures.reason(error)


def _below(folder: Path) -> Iterator[Path]:
    for place, inside, names in os.walk(folder, followlinks=True):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and suffix in PICTURES | UNREADABLE:
                yield Path(place, name)


def _listed(place: Path) -> Iterator[Path]:
    with place.open(encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if name := line.strip():
                yield place.parent / Path(name).expanduser()
