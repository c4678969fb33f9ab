"""Convolution by XLA, and as a matrix product."""

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.models.windows import window_slices


def xla_convolution(
    images: jax.Array,
    kernel: jax.Array,
    padding: tuple[tuple[int, int], tuple[int, int]],
    stride: int = 1,
    kernel_dilation: int = 1,
) -> jax.Array:
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        rhs_dilation=(kernel_dilation, kernel_dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def dot_convolution(images: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    height, width, inputs, outputs = kernel.shape
    if padding:
        images = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    slices = window_slices(images, height, width, stride)
    patches = slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)
    matrix = kernel.reshape(height * width * inputs, outputs)
    # Flatten to a matrix: XLA would otherwise transpose four dimensions for the kernel's gradient,
    # at 2 to 5 times the cost of the product on a CPU.
    rows = patches.reshape(-1, patches.shape[-1])
    return (rows @ matrix).reshape(*patches.shape[:-1], outputs)
