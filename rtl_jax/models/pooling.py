"""Max-pooling, mean-pooling and blur-pooling."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rtl_jax.models.convolution import ConvMethod
from rtl_jax.models.windows import window_slices


def max_pool(
    images: jax.Array, method: ConvMethod, stride: int = 2, *, size: int = 3, padding: int = 1
) -> jax.Array:
    """Max-pool, by default with 3x3 windows, stride 2 and padding 1; ties go to the first value.

    The gradient of XLA's pooling ('xla') uses a single CPU core. The other methods compare slices,
    with the same values and gradients.
    """
    around = ((padding, padding),) * 2
    if method == "xla":
        return nnx.max_pool(images, (size, size), strides=(stride, stride), padding=around)
    lowest = jnp.asarray(-jnp.inf, images.dtype)
    padded = jnp.pad(images, ((0, 0), *around, (0, 0)), constant_values=lowest)
    first, *others = window_slices(padded, size, size, stride)
    for other in others:
        # A NaN compares as not larger, but must propagate.
        first = jnp.where((other > first) | jnp.isnan(other), other, first)
    return first


def mean_pool(images: jax.Array) -> jax.Array:
    """Average 2x2 windows with stride 2; at the edges, over the pixels inside the image.

    Like torch's AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False).
    """
    batch, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    rows, columns = padded.shape[1] // 2, padded.shape[2] // 2
    total = padded.reshape(batch, rows, 2, columns, 2, channels).sum((2, 4))
    down, across = (
        np.minimum(2, size - 2 * np.arange(steps))
        for size, steps in ((height, rows), (width, columns))
    )
    return total / jnp.asarray(down[:, None, None] * across[:, None], total.dtype)


def blur_pool(images: jax.Array) -> jax.Array:
    """Apply a 3x3 binomial blur with stride 2, with reflection at the edges."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    weights = np.outer([1, 2, 1], [1, 2, 1]).reshape(-1) / 16
    first, *others = (
        part * jnp.asarray(weight, part.dtype)
        for part, weight in zip(window_slices(padded, 3, 3, 2), weights, strict=True)
    )
    return sum(others, first)
