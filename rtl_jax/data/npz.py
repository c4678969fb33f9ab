"""`npz:PATH`: the four arrays of a Keras dataset, x_train, y_train, x_test and y_test.

Headers are read first, so that unusable arrays are rejected before they are decompressed to
whatever size.
"""

import logging
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rtl_jax.data.arrays import check_images, grey_levels
from rtl_jax.data.dataset import Decoded, ImageSet
from rtl_jax.data.npy import UNREADABLE, Header, read_array, read_header
from rtl_jax.errors import UserError
from rtl_jax.runtime.resources import host_free

HALVES = ("train", "test")
KEYS = ("x_train", "y_train", "x_test", "y_test")

MOST_CLASSES = 2**20

logger = logging.getLogger(__name__)


def read_npz(path: Path) -> Decoded:
    """Read x_*, uint8 or float in [0, 1], [N, H, W] or [N, H, W, C], and y_*, int [N] or [N, 1].

    Pickled objects are never loaded. Raises UserError for a missing or damaged file, a missing
    array, an array of another dtype or shape, and arrays that exceed the memory.
    """
    headers = read_headers(path)
    _check_lengths(path, headers)
    _check_memory(path, headers)
    # Labels first: they are small, and images are useless without them.
    labels = {
        half: _labels(_read(path, headers[f"y_{half}"]), f"y_{half} of {path}") for half in HALVES
    }
    halves = [
        ImageSet(
            grey_levels(_read(path, headers[f"x_{half}"]), f"x_{half} of {path}"), labels[half]
        )
        for half in HALVES
    ]
    count = max((int(each.max()) + 1 for each in labels.values() if len(each)), default=0)
    return Decoded(halves[0], halves[1], tuple(str(label) for label in range(count)))


def decoded_bytes(path: Path) -> int:
    """Return the size of the images as uint8, without reading them. Raises as `read_npz`."""
    headers = read_headers(path)
    return sum(math.prod(headers[f"x_{half}"].shape) for half in HALVES)


def read_headers(path: Path) -> dict[str, Header]:
    """Read only the shape and dtype of the four arrays.

    Raises UserError for a missing or damaged file, a missing array, and shapes or dtypes that do
    not fit images or labels.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: npz: takes the path of a .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            if missing := [key for key in KEYS if key not in members]:
                raise UserError(
                    f"{path} has no array {', '.join(missing)}: it must hold {', '.join(KEYS)}, "
                    f"and holds {_listed(members) or 'nothing'}"
                )
            headers = {key: read_header(archive, members[key]) for key in KEYS}
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    if unused := [name for name in members if name not in KEYS]:
        logger.warning("%s: arrays that are not used: %s", path, _listed(unused))
    for half in HALVES:
        check_images(headers[f"x_{half}"], f"x_{half} of {path}")
        _check_labels(headers[f"y_{half}"], f"y_{half} of {path}")
    return headers


def _read(path: Path, header: Header) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            return read_array(archive, header)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> UserError:
    with path.open("rb") as file:
        if file.read(6) == np.lib.format.MAGIC_PREFIX:
            return UserError(f"{path} is a single array, not a .npz file with {', '.join(KEYS)}")
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return UserError(
        f"{path} cannot be read as a .npz file of plain arrays ({reason}): write it again "
        "with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
    )


def _check_lengths(path: Path, headers: dict[str, Header]) -> None:
    for half in HALVES:
        images, labels = headers[f"x_{half}"].shape[0], headers[f"y_{half}"].shape[0]
        if images != labels:
            raise UserError(
                f"{path}: x_{half} has {images} images and y_{half} {labels} labels: expected one "
                "per image"
            )


def _check_memory(path: Path, headers: dict[str, Header]) -> None:
    arrays = sum(header.nbytes for header in headers.values())
    copied = [headers[f"x_{half}"] for half in HALVES]
    copied = [each for each in copied if each.fortran or each.dtype != np.uint8]
    needed = arrays + sum(math.prod(header.shape) for header in copied)
    if needed > (free := host_free()):
        raise UserError(
            f"{path}: its arrays need {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} "
            "are free: keep fewer images, smaller ones, or uint8 instead of floats"
        )


def _check_labels(header: Header, name: str) -> None:
    shape = header.shape
    flat = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    if not flat or not np.issubdtype(header.dtype, np.integer):
        hint = "; turn one-hot rows into labels with .argmax(1)" if len(shape) == 2 else ""
        raise UserError(
            f"{name} must be integers [N] or [N, 1], received {header.dtype} {list(shape)}{hint}"
        )


def _labels(array: np.ndarray, name: str) -> np.ndarray:
    array = array.reshape(-1)
    if array.size and not (array.min() >= 0 and array.max() < MOST_CLASSES):
        raise UserError(
            f"{name} holds labels of {array.min()}..{array.max()}: number the classes 0, 1, ..."
        )
    return array.astype(np.int32)


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return ", ".join(name[:40] for name in listed[:10]) + more
