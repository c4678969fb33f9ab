"""The fastest convolution on a CPU, with equally fast gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.models.plain_convolution import dot_convolution, xla_convolution


def _few_pixels(images: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Return whether a matrix product beats Eigen's convolution; see docs/benchmarks.md.

    It does if the kernel accounts for most of the work, or is larger than the image, for which
    Eigen uses a plain loop (15 to 50 times slower).
    """
    height, width = images.shape[1:3]
    pixels = height * width // stride**2
    return max(height, width) < kernel.shape[0] or 4 * pixels <= images.shape[3]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def eigen_convolution(images: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """Apply XLA's convolution on a CPU, with gradients that Eigen can also compute.

    XLA passes a convolution to Eigen if it is NHWC, HWIO and not reversed, and otherwise runs a
    plain loop nest, 8 to 90 times slower. It rewrites convolutions at the top level of a program
    into that form, but not those inside `lax.scan` and similar. JAX's gradients of a convolution do
    not have the form; the ones defined here do.
    """
    if _few_pixels(images, kernel, stride):
        return dot_convolution(images, kernel, stride, padding)
    return xla_convolution(images, kernel, ((padding, padding),) * 2, stride=stride)


def _forward(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return eigen_convolution(images, kernel, stride, padding), (images, kernel)


def _backward(
    stride: int, padding: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    return (
        _to_images(images, kernel, stride, padding, gradient),
        _to_kernel(images, kernel, stride, padding, gradient),
    )


eigen_convolution.defvjp(_forward, _backward)


def _to_images(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, gradient: jax.Array
) -> jax.Array:
    """Compute the images' gradient [N, H, W, I], with the flipped kernel or a matrix product."""
    if stride > 1 and kernel.shape[2] * stride**2 <= kernel.shape[3]:
        return _to_phases(images, kernel, stride, padding, gradient)
    if stride > 1 or _few_pixels(images, kernel, stride):
        # With a stride, Eigen would convolve a gradient that is mostly zeros.
        _, pullback = jax.vjp(
            lambda images: dot_convolution(images, kernel, stride, padding), images
        )
        (result,) = pullback(gradient)
        return result
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    around = [(size - 1 - padding,) * 2 for size in kernel.shape[:2]]
    return xla_convolution(gradient, turned, (around[0], around[1]))


def _to_phases(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, gradient: jax.Array
) -> jax.Array:
    """Compute the images' gradient [N, H, W, I] of a strided convolution by an unstrided one.

    Pixels at the same position (phase) in squares of stride x stride use the same part of the
    kernel. All phases are outputs of one convolution of the gradient, [N, H / s, W / s, s * s * I].
    For few inputs, such as the colours of an image, this takes a fifth of the time of adding k * k
    shifted products.
    """
    batch, height, width, inputs = images.shape
    rows, low, high = _phase_rows(kernel.shape[0], stride, padding)
    columns, left, right = _phase_rows(kernel.shape[1], stride, padding)
    # An additional row and column of zeros, for what a phase does not use.
    larger = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    parts = larger[rows[:, :, None, None], columns[None, None]]  # [T, s, T', s, I, O]
    parts = parts.transpose(0, 2, 5, 1, 3, 4).reshape(*parts.shape[:3:2], kernel.shape[3], -1)
    down, across = -(-height // stride), -(-width // stride)
    around = (
        (-low, down + high - gradient.shape[1]),
        (-left, across + right - gradient.shape[2]),
    )
    squares = xla_convolution(gradient, parts, around).reshape(
        batch, down, across, stride, stride, inputs
    )
    whole = squares.transpose(0, 1, 3, 2, 4, 5)
    return whole.reshape(batch, down * stride, across * stride, inputs)[:, :height, :width]


def _phase_rows(size: int, stride: int, padding: int) -> tuple[np.ndarray, int, int]:
    """Tabulate the kernel row that links a pixel to an output, by their distance and the phase.

    Pixel stride * q + phase contributes through row u to the output i with
    stride * i + u - padding = stride * q + phase. Returns u by i - q, from lowest to highest, and
    phase, int [T, stride] (`size` if there is none), and the lowest and highest i - q.
    """
    seen = {
        ((phase + padding - row) // stride, phase): row
        for phase in range(stride)
        for row in range(size)
        if (phase + padding - row) % stride == 0
    }
    distances = [distance for distance, _ in seen]
    low, high = min(distances), max(distances)
    table = np.full((high - low + 1, stride), size)
    for (distance, phase), row in seen.items():
        table[distance - low, phase] = row
    return table, low, high


def _to_kernel(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, gradient: jax.Array
) -> jax.Array:
    """Compute the kernel's gradient [k, k, I, O] by convolving images with output gradients."""
    after = [
        size + (steps - 1) * stride - length - padding
        for size, steps, length in zip(
            kernel.shape[:2], gradient.shape[1:3], images.shape[1:3], strict=True
        )
    ]
    result = xla_convolution(
        images.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        ((padding, after[0]), (padding, after[1])),
        kernel_dilation=stride,
    )
    return result.transpose(1, 2, 0, 3)
