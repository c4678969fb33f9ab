"""The windows of a convolution or pooling as slices of images."""

import jax
from jax import lax


def window_slices(images: jax.Array, height: int, width: int, stride: int) -> list[jax.Array]:
    """Return the slice of padded images [N, H, W, I] for each window position, row by row."""
    batch, rows, columns, inputs = images.shape
    down = (rows - height) // stride * stride + 1
    right = (columns - width) // stride * stride + 1
    return [
        lax.slice(
            images,
            (0, row, column, 0),
            (batch, row + down, column + right, inputs),
            (1, stride, stride, 1),
        )
        for row in range(height)
        for column in range(width)
    ]
