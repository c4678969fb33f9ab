"""16-bit pictures, which often use fewer bits: cameras, scanners and sensors yield 10, 12 or 14.

A single picture does not tell which value is white: scaling each by its maximum would brighten dark
ones, and training and prediction would differ in scale. So 65,535 is always white, and a dataset
whose pictures all stay far below is rejected with a question that only its owner can answer.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rtl_jax.errors import UserError

WHITE = 65_535

# PIL's raw modes for 16 bits per channel, such as "RGB;16B"; not "BGR;16", which has 16 bits for
# all three channels.
_WIDE_PIXELS = re.compile(r";16[BLN]")


def is_wide(image: Image.Image) -> bool:
    """Return whether an opened picture, not yet loaded, has more than 8 bits per channel."""
    return image.mode.startswith("I") or bool(
        _WIDE_PIXELS.search(str(getattr(image, "tile", [])[:1]))
    )


def largest(image: Image.Image) -> int:
    """Return the largest value in a loaded wide picture, in steps of 257 if PIL scaled it.

    Raises ValueError for pixels without a fixed range.
    """
    if image.mode.startswith("I"):
        return int(_values(image).max())
    values = np.asarray(image.convert("RGB"))  # ignores transparency
    return 257 * int(values.max())


def eight_bits(image: Image.Image) -> Image.Image:
    """Convert a picture of mode I or F, with 65,535 as white. Raises ValueError if out of range."""
    # PIL's own conversion clips 16-bit values at 255 instead of scaling them.
    return Image.fromarray(((_values(image).astype(np.uint32) + 128) // 257).astype(np.uint8))


def check_range(tops: Sequence[int], name: str) -> None:
    """Raise UserError, asking what is white, if all largest values leave a bit unused.

    `tops` are the largest values of the dataset's wide pictures; `name` is the dataset's name.
    """
    top = max(tops, default=WHITE)
    if 2 * top >= WHITE:
        return
    bits = max(8, top.bit_length())
    raise UserError(
        f"{name}: the images with 16 bits per channel ({len(tops)}) use only values up to {top} of "
        f"{WHITE}: they would become {'black' if bits <= 12 else 'dark'}. Which value is white? "
        "Scale all images, for training and for prediction, by the same factor, and save them "
        f"again (for {bits} bits: value * {WHITE} // {2**bits - 1}); or, if they are meant to be "
        "that dark, save them with 8 bits (value // 257)"
    )


def check_files(files: Iterable[Path], name: str) -> None:
    """Apply `check_range` to some files of a dataset, skipping those that cannot be opened."""
    tops = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in files:
            try:
                with Image.open(file) as image:
                    if is_wide(image):
                        image.load()
                        tops.append(largest(image))
            except Exception:
                continue  # Decoding reports it.
            if tops and 2 * tops[-1] >= WHITE:
                return
    check_range(tops, name)


def _values(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > WHITE:
        raise ValueError(
            f"pixels of mode {image.mode} have no fixed range: save them with 8 or 16 bits, all "
            "images scaled alike"
        )
    return values
