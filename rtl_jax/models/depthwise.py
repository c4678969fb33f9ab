"""Depthwise convolution on a CPU.

There, XLA's grouped convolution takes 15 to 30 times as long as k * k shifted products in one fused
loop; see docs/benchmarks.md.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.models.in_memory import in_memory_on_cpu
from rtl_jax.models.windows import window_slices


def shifted_products(images: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """Convolve [N, H, W, C] with a kernel [k, k, 1, C], zero-padded on every side.

    Supports all modes of differentiation, and keeps its form under `vmap` over kernels.
    """
    height, width, _, channels = kernel.shape
    rows = kernel.reshape(height * width, channels)
    first, *others = (
        part * row
        for part, row in zip(
            window_slices(_padded(images, padding), height, width, stride), rows, strict=True
        )
    )
    return sum(others, first)


def _padded(images: jax.Array, padding: int) -> jax.Array:
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    # Materialise: fused into the loop, every product would check the image's bounds.
    return in_memory_on_cpu(padded)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_with_gradients(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int
) -> jax.Array:
    """Convolve like `shifted_products`, with equally fast gradients in reverse mode only.

    The gradient of a sum of slices would be a sum of padded images, at twenty times the cost; here
    it is again a depthwise convolution.
    """
    return shifted_products(images, kernel, stride, padding)


def _forward(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise_with_gradients(images, kernel, stride, padding), (images, kernel)


def _backward(
    stride: int, padding: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    zero = jnp.zeros((), gradient.dtype)
    around = []
    for size, steps, length in zip(
        kernel.shape[:2], gradient.shape[1:3], images.shape[1:3], strict=True
    ):
        before = size - 1 - padding
        after = length + padding - 1 - (steps - 1) * stride
        around.append((before, after, stride - 1))
    spread = lax.pad(gradient, zero, ((0, 0, 0), *around, (0, 0, 0)))
    to_images = depthwise_with_gradients(spread, kernel[::-1, ::-1], 1, 0)
    return to_images, _to_kernel(images, kernel, stride, padding, gradient)


def _to_kernel(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, gradient: jax.Array
) -> jax.Array:
    """Compute the kernel's gradient [k, k, 1, C], one image at a time so that products stay cached.

    They are summed by a matrix product with ones: XLA's own sum over all axes but the last accesses
    memory with a stride, at two to five times the cost.
    """
    height, width, _, channels = kernel.shape

    def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        image, slope = pair
        ones = jnp.ones((1, slope.size // channels), slope.dtype)
        sums = [
            ones @ in_memory_on_cpu((part[0] * slope).reshape(-1, channels))
            for part in window_slices(image[None], height, width, stride)
        ]
        return total + jnp.concatenate(sums), None

    zeros = jnp.zeros((height * width, channels), gradient.dtype)
    total, _ = lax.scan(add, zeros, (_padded(images, padding), gradient))
    return total.reshape(kernel.shape)


depthwise_with_gradients.defvjp(_forward, _backward)
