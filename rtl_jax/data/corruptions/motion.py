"""Motion of the camera, or of snow: a weighted sum of shifted images."""

import math
from typing import Any, NamedTuple

import numpy as np


class Motion(NamedTuple):
    """K shifts of an image [H, W, C] and their weights, as NumPy or JAX arrays.

    rows: int32 [K, H], the source row of each pixel. columns: int32 [K, W].
    weights: float32 [K].
    """

    rows: Any
    columns: Any
    weights: Any


def motion(height: int, width: int, radius: int, sigma: float, degrees: float) -> Motion:
    """Weight 2 radius + 1 shifts by half a Gaussian; edge pixels are repeated.

    Follows the package `imagecorruptions`; the published images were made with ImageMagick.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    angle = math.radians(degrees)
    down, right = (
        -np.ceil(steps * part - 0.5).astype(int) for part in (math.sin(angle), math.cos(angle))
    )
    inside = (abs(down) < height) & (abs(right) < width)
    rows, columns = (
        np.clip(np.arange(size) - shift[:, None], 0, size - 1).astype(np.int32)
        for size, shift in ((height, down), (width, right))
    )
    return Motion(rows, columns, (weights / weights.sum() * inside).astype(np.float32))
