"""Depthwise convolution: each channel has a kernel of its own.

XLA's grouped convolution on a CPU takes 15 to 30 times as long as k * k shifted products in one
fused loop; docs/benchmarks.md has the times.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from rtl_jax.models.layers import ConvMethod


def depthwise(images: jax.Array, kernel: jax.Array, method: ConvMethod) -> jax.Array:
    """Convolve [N, H, W, C] with a kernel [k, k, 1, C] of odd size, padding k // 2, stride 1.

    `method` is that of `layers.conv2d`: 'xla' is XLA's own grouped convolution, 'dot' shifted
    products, which can be differentiated in every mode and stay what they are under `vmap` over
    kernels, 'eigen' the same with gradients of reverse mode alone, as fast as the convolution.
    """
    if method == "xla":
        return lax.conv_general_dilated(
            images,
            kernel,
            (1, 1),
            [(size // 2,) * 2 for size in kernel.shape[:2]],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=images.shape[-1],
        )
    return _shifted(images, kernel) if method == "dot" else _fast(images, kernel)


def _windows(images: jax.Array, size: int) -> list[list[jax.Array]]:
    """What each place of a size x size window sees, [N, H, W, C], by row and column."""
    height, width = images.shape[1:3]
    around = (size // 2,) * 2
    padded = jnp.pad(images, ((0, 0), around, around, (0, 0)))
    # In memory: as part of the loop over products, each of these would ask where the image ends.
    padded = lax.optimization_barrier(padded)
    return [
        [padded[:, row : row + height, column : column + width] for column in range(size)]
        for row in range(size)
    ]


def _shifted(images: jax.Array, kernel: jax.Array) -> jax.Array:
    windows = _windows(images, len(kernel))
    total = jnp.zeros_like(images)
    for row, line in enumerate(windows):
        for column, window in enumerate(line):
            total = total + window * kernel[row, column, 0]
    return total


@jax.custom_vjp
def _fast(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return _shifted(images, kernel)


def _fast_forward(
    images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _fast(images, kernel), (images, kernel)


def _fast_backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    # The gradient to the images is a convolution with the kernel turned around.
    to_kernel = [
        [(window * gradient).sum((0, 1, 2)) for window in line]
        for line in _windows(images, len(kernel))
    ]
    stacked = jnp.stack([jnp.stack(line) for line in to_kernel])[:, :, None]
    return _fast(gradient, kernel[::-1, ::-1]), stacked


_fast.defvjp(_fast_forward, _fast_backward)


class DepthwiseConv(nnx.Module):
    """A depthwise convolution with a bias; kernel [k, k, 1, channels]."""

    def __init__(self, channels: int, size: int, *, dtype: jnp.dtype, method: ConvMethod):
        self.kernel = nnx.Param(jnp.zeros((size, size, 1, channels)))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.dtype = dtype
        self.method = method

    def __call__(self, images: jax.Array) -> jax.Array:
        kernel, bias = (jnp.asarray(part[...], self.dtype) for part in (self.kernel, self.bias))
        return depthwise(images, kernel, self.method) + bias
