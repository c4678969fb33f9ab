"""Pictures of 16 bits, of which many use fewer: cameras, scanners and sensors give 10, 12 or 14.

Which value is white is no property of one picture: to scale each by its own maximum would make
a dark one bright, and train on another scale than is predicted on. So 65,535 is white, always, and
a set of which no picture comes near is refused with the question that only its owner can answer.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rtl_jax.errors import UserError

WHITE = 65_535

# How PIL's decoders call pixels of 16 bits in one channel or more, "RGB;16B" for example; not
# "BGR;16", which has 16 bits for all three.
_WIDE_PIXELS = re.compile(r";16[BLN]")


def is_wide(image: Image.Image) -> bool:
    """Whether an opened picture, not yet loaded, has more than 8 bits a channel."""
    return image.mode.startswith("I") or bool(
        _WIDE_PIXELS.search(str(getattr(image, "tile", [])[:1]))
    )


def largest(image: Image.Image) -> int:
    """The largest value in a loaded picture that `is_wide`; in steps of 257 where PIL scaled it.

    Raises ValueError for pixels without a fixed range.
    """
    if image.mode.startswith("I"):
        return int(_values(image).max())
    values = np.asarray(image.convert("RGB"))  # transparency is not the picture
    return 257 * int(values.max())


def eight_bits(image: Image.Image) -> Image.Image:
    """A picture of mode I or F with 65,535 as white; ValueError where the range is another."""
    # PIL's own conversion clips 16-bit values at 255 instead of scaling them.
    return Image.fromarray(((_values(image).astype(np.uint32) + 128) // 257).astype(np.uint8))


def check_range(tops: Sequence[int], name: str) -> None:
    """Raise UserError, asking what is white, if all largest values leave a bit unused.

    `tops` are those of the set's wide pictures; `name` is the set's.
    """
    top = max(tops, default=WHITE)
    if 2 * top >= WHITE:
        return
    bits = max(8, top.bit_length())
    raise UserError(
        f"{name}: pictures of 16 bits a channel ({len(tops)}) use only values up to {top} of "
        f"{WHITE}: they would become {'black' if bits <= 12 else 'dark'}. Which value is white? "
        "Scale all pictures, those of training and those to be predicted, by the same factor, and "
        f"save them again (for {bits} bits: value * {WHITE} // {2**bits - 1}); or, if they are "
        "meant to be that dark, save them with 8 bits (value // 257)"
    )


def check_files(files: Iterable[Path], name: str) -> None:
    """`check_range` of some of a set's files; what cannot be opened is left to others to name."""
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
                continue  # Decoding says what it is.
            if tops and 2 * tops[-1] >= WHITE:
                return
    check_range(tops, name)


def _values(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > WHITE:
        raise ValueError(
            f"pixels of mode {image.mode} have no fixed range: save 8 or 16 bits, all pictures "
            "scaled alike"
        )
    return values
