"""The crop box of torchvision's RandomResizedCrop, for the host and the device."""

import math
from typing import Any

# The smallest and largest aspect ratio (width over height) of the crop.
ASPECTS = (3 / 4, 4 / 3)
# Crops are drawn until one fits into the image; after this many, a central crop is taken.
TRIES = 10
# The number of random numbers that `crop_box` takes.
DRAWS = 2 * TRIES + 2


def crop_box(draws: Any, height: int, width: int, smallest: float) -> tuple[Any, Any, Any, Any]:
    """Return top, left, height and width of a random crop, to be resized to the whole image.

    The fraction of the area is uniform in [smallest, 1], the aspect ratio log-uniform in `ASPECTS`,
    and the position uniform. If no crop fits, as happens with elongated images, it is the largest
    central crop with an allowed aspect ratio.

    Args:
        draws: float [22], uniform in [0, 1), from NumPy or JAX.
        height: of the image, in pixels; static.
        width: likewise.
        smallest: the smallest fraction of the area.

    Returns:
        Pixels, as integer scalars of the same kind as `draws`.
    """
    xp = draws.__array_namespace__()
    areas = height * width * (smallest + (1 - smallest) * draws[:TRIES])
    low, high = (math.log(aspect) for aspect in ASPECTS)
    aspects = xp.exp(low + (high - low) * draws[TRIES : 2 * TRIES])
    widths = xp.round(xp.sqrt(areas * aspects)).astype(int)
    heights = xp.round(xp.sqrt(areas / aspects)).astype(int)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = xp.argmax(fits)
    middle_height, middle_width = _middle(height, width)
    found = fits[first]
    h = xp.where(found, heights[first], middle_height)
    w = xp.where(found, widths[first], middle_width)
    top = xp.where(found, xp.floor(draws[-2] * (height - h + 1)).astype(int), (height - h) // 2)
    left = xp.where(found, xp.floor(draws[-1] * (width - w + 1)).astype(int), (width - w) // 2)
    return top, left, h, w


def _middle(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the largest crop with an allowed aspect ratio."""
    aspect = width / height
    if aspect < ASPECTS[0]:
        return round(width / ASPECTS[0]), width
    if aspect > ASPECTS[1]:
        return height, round(height * ASPECTS[1])
    return height, width
