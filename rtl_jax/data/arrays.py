"""Images and labels as a user holds them, brought into the form that everything here takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtl_jax.errors import UserError

# Pixels may leave [0, 1] by what rounding does.
_ROUNDING = 1e-6


def as_uint8(images: Any) -> np.ndarray:
    """Images [N, H, W], or [N, H, W, 1 or 3], uint8 or float in [0, 1], as uint8 [N, H, W, C].

    Floats are rounded to grey levels, as a file of 8 bits holds them. Raises UserError for other
    shapes, types and pixels.
    """
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        hint = ""
        if array.ndim == 4 and array.shape[1] in (1, 3):
            hint = "; channels come last: transpose with numpy.moveaxis(images, 1, -1)"
        raise UserError(
            "images: expected [N, height, width] or [N, height, width, 1 or 3], received "
            f"{list(array.shape)}{hint}"
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"images: expected uint8, or floats in [0, 1]; received {array.dtype}")
    low, high = float(array.min()), float(array.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise UserError(
            f"images: expected pixels in [0, 1], found {low:g} to {high:g}: divide them by their "
            "largest possible value, and leave normalisation to the network"
        )
    return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)


def encode_labels(labels: Any, class_names: Sequence[str]) -> np.ndarray:
    """Labels [N] as int32 numbers of classes.

    A label is a class's name, or what reads like it; where none is, labels are the numbers
    themselves. Raises UserError for a label that is neither, and for other shapes.
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise UserError(f"labels: expected [N], one for each image; received {list(array.shape)}")
    numbers = {name: number for number, name in enumerate(class_names)}
    unknown = sorted({str(label) for label in array.tolist()} - numbers.keys())
    if not unknown:
        return np.array([numbers[str(label)] for label in array.tolist()], np.int32)
    whole = np.issubdtype(array.dtype, np.integer)
    if whole and len(array) and array.min() >= 0 and array.max() < len(class_names):
        return array.astype(np.int32)
    raise UserError(
        f"labels: {', '.join(unknown[:5])} {'is' if len(unknown) == 1 else 'are'} not among the "
        f"{len(class_names)} classes {', '.join(class_names[:5])}"
        f"{', ...' if len(class_names) > 5 else ''}; expected their names, or numbers from 0"
    )


def class_names_of(labels: Any) -> tuple[str, ...]:
    """The different labels as text, sorted as they are. Raises UserError for fewer than two."""
    array = np.asarray(labels)
    names = tuple(str(label) for label in np.unique(array).tolist())
    if array.ndim != 1 or len(names) < 2:
        raise UserError(
            f"labels: expected [N] with two classes or more, received {list(array.shape)} with "
            f"{', '.join(names) or 'none'}"
        )
    return names
