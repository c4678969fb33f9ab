"""Conversion of users' images and labels to the form used throughout the package."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rtl_jax.errors import UserError

# Pixels may leave [0, 1] by the rounding of an image's own arithmetic: resizing can yield -3e-8 in
# single precision, and 1.001 in half.
_ROUNDING = 1e-6
_ROUNDING_STEPS = 4

_BLOCK = 2**24  # pixels converted at a time


def as_uint8(images: Any) -> np.ndarray:
    """Convert images [N, H, W] or [N, H, W, 1 or 3], uint8 or float in [0, 1], to uint8 NHWC.

    Floats are rounded to grey levels, as in an 8-bit file. Raises UserError for other shapes, types
    and pixel values.
    """
    return _rounded(checked_images(images))


def checked_images(images: Any) -> np.ndarray:
    """Return images [N, H, W] or [N, H, W, 1 or 3], uint8 or float in [0, 1], as an array.

    Raises UserError for other shapes, types and pixel values, and if there are none.
    """
    try:
        array = np.asarray(images)
    except ValueError as error:  # NumPy's, for a list of arrays that cannot be stacked
        raise UserError(
            "images: expected an array, or a list of images of one size; received images of "
            "different shapes: resize them first, or load them with "
            "rtl_jax.data.load_dataset('folder:PATH', ...)"
        ) from error
    if array.ndim == 3 and array.shape[-1] in (3, 4):  # else read as many images of W x 3 pixels
        raise UserError(
            f"images: expected [N, height, width, 3], received a single image {list(array.shape)}: "
            "pass images[None]"
        )
    check_images(array, "images")
    if not len(array):
        raise UserError("images: expected one or more, received none")
    check_pixels(array, "images")
    return array


class Shaped(Protocol):
    """An array, or the header of one that has not been read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...


def check_images(array: Shaped, name: str) -> None:
    """Raise UserError, naming the array `name`, for shapes or types that `grey_levels` rejects."""
    shape, dtype = array.shape, array.dtype
    channels_last = len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3))
    if not channels_last or 0 in shape[1:]:
        hint = ""
        if dtype.kind in "US":
            hint = "; files are read by rtl_jax.data.load_dataset('folder:PATH', ...)"
        elif len(shape) == 4 and shape[-1] == 4:
            hint = "; transparency is not supported: keep three channels, images[..., :3]"
        elif len(shape) == 4 and shape[1] in (1, 3):
            hint = "; channels come last: transpose with numpy.moveaxis(images, 1, -1)"
        raise UserError(
            f"{name}: expected [N, height, width] or [N, height, width, 1 or 3], received "
            f"{list(shape)}{hint}"
        )
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        raise UserError(
            f"{name}: expected uint8, or floats in [0, 1]; received {dtype}: convert values of "
            "0..255 with .astype(numpy.uint8)"
        )


def grey_levels(array: np.ndarray, name: str) -> np.ndarray:
    """Convert an array that passes `check_images` to uint8 [N, H, W, C], rounding floats.

    Raises UserError, naming the array `name`, for floats that are not finite or outside [0, 1] by
    more than rounding.
    """
    check_pixels(array, name)
    return _rounded(array)


def _rounded(array: np.ndarray) -> np.ndarray:
    """Convert checked images to uint8 NHWC."""
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype == np.uint8:
        return array
    levels = np.empty(array.shape, np.uint8)
    step = max(1, _BLOCK // math.prod(array.shape[1:]))
    for start in range(0, len(array), step):  # so that few floats are copied at a time
        block = array[start : start + step]
        levels[start : start + step] = np.rint(np.clip(block, 0, 1) * 255)
    return levels


def check_pixels(array: np.ndarray, name: str) -> None:
    """Raise UserError for floats that are not finite or outside [0, 1] by more than rounding."""
    if array.dtype == np.uint8 or not len(array):
        return
    rounding = max(_ROUNDING, _ROUNDING_STEPS * float(np.finfo(array.dtype).eps))
    low, high = float(array.min()), float(array.max())
    if math.isnan(low):  # then both are
        raise UserError(f"{name}: expected pixels in [0, 1], found some that are not numbers (NaN)")
    if not (low >= -rounding and high <= 1 + rounding):
        raise UserError(
            f"{name}: expected pixels in [0, 1], found {low:g} to {high:g}: divide them by their "
            "largest possible value, and leave normalisation to the network"
        )


def encode_labels(labels: Any, class_names: Sequence[str]) -> np.ndarray:
    """Encode labels [N] as int32 class indices.

    A label is the name of a class, or a value whose text is. Where names are numbers, numeric
    labels are compared by value (1 is the class '1.0'). Only if no name is a number, integers are
    the indices themselves. Raises UserError for a label that is none of these, and for other
    shapes.
    """
    array = _label_array(labels)
    numbers: dict[Any, int] = {name: number for number, name in enumerate(class_names)}
    if len(numbers) < len(class_names):
        raise UserError(f"class_names: expected different names, received {', '.join(class_names)}")
    values: list[Any] = array.tolist()
    named = [number for name in class_names if (number := _number(name)) is not None]
    if array.dtype.kind in "iuf" and len(set(named)) == len(class_names):
        numbers, values = dict(zip(named, numbers.values(), strict=True)), [*map(float, values)]
    else:
        values = [str(label) for label in values]
    unknown = sorted(set(values) - numbers.keys())
    if not unknown:
        return np.array([numbers[label] for label in values], np.int32)
    indices = array.dtype.kind in "iu" and not named
    if indices and array.min() >= 0 and array.max() < len(class_names):
        return array.astype(np.int32)
    listed = ", ".join(f"{label:g}" if isinstance(label, float) else label for label in unknown[:5])
    raise UserError(
        f"labels: {listed} {'is' if len(unknown) == 1 else 'are'} not among the "
        f"{len(class_names)} classes {', '.join(class_names[:5])}"
        f"{', ...' if len(class_names) > 5 else ''}; expected their names"
        f"{', not numbers from 0' if named else ', or numbers from 0'}"
    )


def _number(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None


def class_names_of(labels: Any) -> tuple[str, ...]:
    """Return the distinct labels as text, sorted by value. Raises UserError for fewer than two."""
    array = _label_array(labels)
    try:
        names = tuple(str(label) for label in np.unique(array).tolist())
    except TypeError as error:  # values of several types have no order
        kinds = sorted({type(label).__name__ for label in array.tolist()})
        raise UserError(
            f"labels: expected values of one type, received {' and '.join(kinds)}"
        ) from error
    if len(names) < 2:
        raise UserError(
            f"labels: expected [N] with two classes or more, received {len(array)} labels"
            f"{f', all {names[0]!r}' if names else ''}"
        )
    return names


def _label_array(labels: Any) -> np.ndarray:
    """Return labels [N] of any type as an array. Raises UserError for other shapes and gaps."""
    array = np.asarray(labels)
    if array.ndim != 1:
        hint = "; turn one-hot rows into labels with .argmax(1)" if array.ndim == 2 else ""
        raise UserError(
            f"labels: expected [N], one for each image; received {list(array.shape)}{hint}"
        )
    # A value that differs from itself is NaN, or pandas' missing time.
    missing = [at for at, label in enumerate(array.tolist()) if label is None or label != label]
    if missing:
        raise UserError(
            f"labels: expected one for each image, and {len(missing)} are missing, the first at "
            f"index {missing[0]}: leave these images out"
        )
    return array
