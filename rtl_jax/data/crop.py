"""Which part of an image torchvision's RandomResizedCrop takes, on the host and on the device."""

import math
from typing import Any

# Shortest and longest width of the part, in its heights.
ASPECTS = (3 / 4, 4 / 3)
# Parts are drawn until one fits into the image; after so many the middle is taken.
TRIES = 10
# How many random numbers `crop_box` takes.
DRAWS = 2 * TRIES + 2


def crop_box(draws: Any, height: int, width: int, smallest: float) -> tuple[Any, Any, Any, Any]:
    """Top, left, height and width of the part of an image that is resized to the whole.

    Its share of the area is uniform in [smallest, 1], the logarithm of its aspect in
    `ASPECTS`, its place uniform where it fits. If no part fits, which happens with long
    images, it is the largest part in the middle whose aspect is allowed.

    Args:
        draws: float [22], uniform in [0, 1), of NumPy or of JAX.
        height: of the image, in pixels; static.
        width: likewise.
        smallest: the smallest share of the area.

    Returns:
        Whole numbers of pixels, as integer scalars of the same kind as `draws`.
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
    """Height and width of the largest part whose aspect is allowed."""
    aspect = width / height
    if aspect < ASPECTS[0]:
        return round(width / ASPECTS[0]), width
    if aspect > ASPECTS[1]:
        return height, round(height * ASPECTS[1])
    return height, width
