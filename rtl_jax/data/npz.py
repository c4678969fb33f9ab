"""`npz:PATH`: the four arrays of a Keras set, x_train, y_train, x_test and y_test."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from rtl_jax.data.dataset import Decoded, ImageSet
from rtl_jax.errors import UserError

KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: Path) -> Decoded:
    """Read x_*, uint8 or float of [0, 1], [N, H, W] or [N, H, W, C], and y_*, int [N] or [N, 1].

    Pickled objects are never loaded. Raises UserError for a missing or damaged file, a
    missing array, or an array of another type or shape.
    """
    _require_file(path)
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UserError(f"{path} is a single array, not a .npz file with {', '.join(KEYS)}")
            if missing := [key for key in KEYS if key not in archive.files]:
                raise UserError(
                    f"{path} has no array {', '.join(missing)}: it must hold {', '.join(KEYS)}, "
                    f"and holds {', '.join(archive.files) or 'nothing'}"
                )
            arrays = {key: archive[key] for key in KEYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read as a .npz file of plain arrays ({error}): write it again "
            "with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
        ) from error
    halves = [
        ImageSet(
            _images(arrays[f"x_{half}"], f"x_{half} of {path}"),
            _labels(arrays[f"y_{half}"], f"y_{half} of {path}"),
        )
        for half in ("train", "test")
    ]
    count = max((int(half.labels.max()) + 1 for half in halves if len(half)), default=0)
    return Decoded(halves[0], halves[1], tuple(str(label) for label in range(count)))


def stored_bytes(path: Path) -> int:
    """The size of the arrays when read, or 0 of a damaged file: `read_npz` says what is wrong.

    Raises UserError for a missing file.
    """
    _require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return 0


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"there is no file {path}: give npz: the path of a .npz file")


def _images(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        hint = ""
        if array.ndim == 4 and array.shape[1] in (1, 3):
            hint = "; channels come last: transpose with numpy.moveaxis(x, 1, -1)"
        raise UserError(
            f"{name} must be [N, H, W] or [N, H, W, 1 or 3], received {list(array.shape)}{hint}"
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"{name} must be uint8, or floats of [0, 1], received {array.dtype}: "
            "convert values of 0..255 with .astype(numpy.uint8)"
        )
    # The negation also catches NaN.
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise UserError(
            f"{name} holds floats of {array.min()}..{array.max()}: they must lie in [0, 1]; "
            "convert values of 0..255 with .astype(numpy.uint8)"
        )
    return np.asarray(np.rint(array * 255), np.uint8)


def _labels(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        hint = "; turn one-hot rows into labels with .argmax(1)" if array.ndim == 2 else ""
        raise UserError(
            f"{name} must be integers [N] or [N, 1], "
            f"received {array.dtype} {list(array.shape)}{hint}"
        )
    if array.size and not (array.min() >= 0 and array.max() < 2**20):
        raise UserError(
            f"{name} holds labels of {array.min()}..{array.max()}: number the classes 0, 1, ..."
        )
    return array.astype(np.int32)
