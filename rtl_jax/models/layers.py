"""The convolution and the batch normalisation of every network here.

Both follow torch to the letter where Flax or XLA would differ: padding is explicit, and
the running variance is the unbiased one. The convolution has three forms with equal values:

- 'xla': `lax.conv_general_dilated` and its own gradient, cuDNN's on a GPU.
- 'dot': the k x k shifted slices side by side, times the kernel as a matrix. It can be
  differentiated in every mode as often as one likes, and under `vmap` over kernels it stays
  a batched matrix product where XLA's turns into a grouped convolution.
- 'eigen': for a CPU the fastest, in loops and outside. See `_eigen`.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from rtl_jax.errors import UserError
from rtl_jax.models.depthwise import depthwise_with_gradients, shifted_products
from rtl_jax.models.gelu import gelu
from rtl_jax.models.windows import window_slices
from rtl_jax.runtime import devices

ConvMethod = Literal["xla", "dot", "eigen"]

# Channels of the dense convolutions that grouped ones are computed by on a CPU.
_DENSE_WIDTH = 64

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nnx.relu,
    "silu": nnx.silu,
    "gelu": gelu,
    # By comparison: `minimum` and `maximum` halve the gradient on a bound, where torch's has none.
    "relu6": lambda x: jnp.where(x > 0, jnp.where(x < 6, x, 6), 0),
    "none": lambda x: x,
}

BN_MOMENTUM = 0.1  # torch's: the weight of the new batch


def choose_convolution(*, batched_weights: bool = False, backend: str | None = None) -> ConvMethod:
    """The form to use on a backend ('cpu', 'gpu', 'tpu'; the default one if None).

    `batched_weights` says that the kernels will have a leading axis under `vmap`, one per seed.
    """
    if batched_weights:
        return "dot"
    return "eigen" if (backend or devices.platform()) == "cpu" else "xla"


def conv2d(
    images: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: int,
    method: ConvMethod,
    groups: int = 1,
) -> jax.Array:
    """Convolve NHWC images [N, H, W, I] with an HWIO kernel, zero-padded on every side.

    With `groups`, the kernel is [k, k, I / groups, O], and every group of outputs sees its own
    group of inputs, in order.

    'eigen' has gradients (and gradients of gradients) by reverse mode, no forward mode: for
    Hessian-vector products by `jax.jvp` of a gradient choose 'dot'.
    """
    if groups > 1:
        return grouped_conv2d(images, kernel, stride, padding, method, groups)
    if method == "xla":
        return _xla(images, kernel, ((padding, padding),) * 2, stride=stride)
    if method == "dot" or kernel.shape[:2] == (1, 1):
        return _dot(images, kernel, stride, padding)
    return _eigen(images, kernel, stride, padding)


def grouped_conv2d(
    images: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: int,
    method: ConvMethod,
    groups: int,
) -> jax.Array:
    """`conv2d` with more than one group; depthwise if every group has one input and one output."""
    height, width, inputs, outputs = kernel.shape
    if method == "xla":
        return lax.conv_general_dilated(
            images,
            kernel,
            window_strides=(stride, stride),
            padding=((padding, padding),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
    if inputs == 1 and outputs == groups:
        depthwise = depthwise_with_gradients if method == "eigen" else shifted_products
        return depthwise(images, kernel, stride, padding)
    # As a few dense convolutions of neighbouring groups, whose kernels are zero between groups:
    # a product as small as a group's own costs more than a larger one that is mostly zeros.
    together = max(_DENSE_WIDTH // max(inputs, outputs // groups), 1)
    while groups % together:
        together -= 1
    parts = groups // together
    own = kernel.reshape(height, width, inputs, parts, together, outputs // groups)
    dense = jnp.einsum("hwipto,ts->hwpsito", own, jnp.eye(together, dtype=own.dtype))
    dense = dense.reshape(height, width, parts, together * inputs, outputs // parts)
    results = [
        conv2d(part, dense[:, :, index], stride, padding, method)
        for index, part in enumerate(jnp.split(images, parts, axis=-1))
    ]
    return jnp.concatenate(results, axis=-1)


def _xla(
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


def _dot(images: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    height, width, inputs, outputs = kernel.shape
    if padding:
        images = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    slices = window_slices(images, height, width, stride)
    patches = slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)
    matrix = kernel.reshape(height * width * inputs, outputs)
    # As one matrix: XLA would transpose four dimensions for the kernel's gradient, at 2 to 5
    # times the product's cost on a CPU.
    rows = patches.reshape(-1, patches.shape[-1])
    return (rows @ matrix).reshape(*patches.shape[:-1], outputs)


def _few_pixels(images: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Whether a matrix product beats Eigen's convolution; docs/benchmarks.md has the times.

    It does where the kernel is the larger part of the work, and where it is larger than the
    image, which Eigen meets with a plain loop (15 to 50 times slower).
    """
    height, width = images.shape[1:3]
    pixels = height * width // stride**2
    return max(height, width) < kernel.shape[0] or 4 * pixels <= images.shape[3]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _eigen(images: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """XLA's convolution on a CPU, with gradients that are again convolutions for Eigen.

    XLA hands a convolution to Eigen if it is NHWC, HWIO and not reversed, and otherwise runs
    a plain loop nest, 8 to 90 times slower. It rewrites those of a program's top level into
    that form, those inside `lax.scan` and the like it does not, and JAX's gradients of a
    convolution do not have it. Those written here do.
    """
    if _few_pixels(images, kernel, stride):
        return _dot(images, kernel, stride, padding)
    return _xla(images, kernel, ((padding, padding),) * 2, stride=stride)


def _eigen_forward(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _eigen(images, kernel, stride, padding), (images, kernel)


def _eigen_backward(
    stride: int, padding: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    return (
        _to_images(images, kernel, stride, padding, gradient),
        _to_kernel(images, kernel, stride, padding, gradient),
    )


_eigen.defvjp(_eigen_forward, _eigen_backward)


def _to_images(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, gradient: jax.Array
) -> jax.Array:
    """The gradient [N, H, W, I] to the images: with the kernel turned around, or a product."""
    if stride > 1 and kernel.shape[2] * stride**2 <= kernel.shape[3]:
        return _to_phases(images, kernel, stride, padding, gradient)
    if stride > 1 or _few_pixels(images, kernel, stride):
        # With a stride Eigen would convolve a gradient of zeros, mostly.
        (result,) = jax.vjp(lambda images: _dot(images, kernel, stride, padding), images)[1](
            gradient
        )
        return result
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    around = [(size - 1 - padding,) * 2 for size in kernel.shape[:2]]
    return _xla(gradient, turned, (around[0], around[1]))


def _to_phases(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, gradient: jax.Array
) -> jax.Array:
    """The gradient [N, H, W, I] to the images of a convolution with a stride, as one without.

    Pixels at the same place in squares of stride x stride see the same part of the kernel. All
    places are outputs of one convolution of the gradient, [N, H / s, W / s, s * s * I]. For few
    inputs, such as the colours in front of a first layer, a fifth of the cost of adding up k * k
    shifted products.
    """
    batch, height, width, inputs = images.shape
    rows, low, high = _phase_rows(kernel.shape[0], stride, padding)
    columns, left, right = _phase_rows(kernel.shape[1], stride, padding)
    # One row and column of zeros more, for what a place does not see.
    larger = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    parts = larger[rows[:, :, None, None], columns[None, None]]  # [T, s, T', s, I, O]
    parts = parts.transpose(0, 2, 5, 1, 3, 4).reshape(*parts.shape[:3:2], kernel.shape[3], -1)
    down, across = -(-height // stride), -(-width // stride)
    around = (
        (-low, down + high - gradient.shape[1]),
        (-left, across + right - gradient.shape[2]),
    )
    squares = _xla(gradient, parts, around).reshape(batch, down, across, stride, stride, inputs)
    whole = squares.transpose(0, 1, 3, 2, 4, 5)
    return whole.reshape(batch, down * stride, across * stride, inputs)[:, :height, :width]


def _phase_rows(size: int, stride: int, padding: int) -> tuple[np.ndarray, int, int]:
    """Which row of a kernel a pixel sees, by the distance of the output and the pixel's phase.

    Pixel stride * q + phase sees through row u the output i with stride * i + u - padding =
    stride * q + phase. Returns u by i - q, from its lowest to its highest, and phase, int
    [T, stride] (`size` where there is none), and both ends.
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
    """The gradient [k, k, I, O] to the kernel: images as inputs, gradients as the kernel."""
    after = [
        size + (steps - 1) * stride - length - padding
        for size, steps, length in zip(
            kernel.shape[:2], gradient.shape[1:3], images.shape[1:3], strict=True
        )
    ]
    result = _xla(
        images.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        ((padding, after[0]), (padding, after[1])),
        kernel_dilation=stride,
    )
    return result.transpose(1, 2, 0, 3)


def max_pool(
    images: jax.Array, method: ConvMethod, stride: int = 2, *, size: int = 3, padding: int = 1
) -> jax.Array:
    """The largest value of every window, by default 3x3, stride 2, padding 1; of equal ones the
    first.

    The gradient of XLA's pooling ('xla') runs on one core of a CPU; the other methods compare
    slices, with the same values and gradients.
    """
    around = ((padding, padding),) * 2
    if method == "xla":
        return nnx.max_pool(images, (size, size), strides=(stride, stride), padding=around)
    lowest = jnp.asarray(-jnp.inf, images.dtype)
    padded = jnp.pad(images, ((0, 0), *around, (0, 0)), constant_values=lowest)
    first, *others = window_slices(padded, size, size, stride)
    for other in others:
        # A NaN is not larger than anything, and must not be lost.
        first = jnp.where((other > first) | jnp.isnan(other), other, first)
    return first


def mean_pool(images: jax.Array) -> jax.Array:
    """The mean of every 2x2 window, stride 2; of those that leave the image, of what is in it.

    As torch's AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False).
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
    """A 3x3 binomial blur with stride 2 of images that are reflected at their edges."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    weights = np.outer([1, 2, 1], [1, 2, 1]).reshape(-1) / 16
    first, *others = (
        part * jnp.asarray(weight, part.dtype)
        for part, weight in zip(window_slices(padded, 3, 3, 2), weights, strict=True)
    )
    return sum(others, first)


class Conv(nnx.Module):
    """A convolution; kernel [k, k, inputs / groups, outputs] and any bias in float32.

    `padding` is k // 2 unless another is given. Like every layer here it only declares its
    variables: `initial.initialize` draws them.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        *,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        dtype: jnp.dtype,
        method: ConvMethod,
    ):
        self.kernel = nnx.Param(jnp.zeros((kernel_size, kernel_size, inputs // groups, outputs)))
        self.has_bias = bias
        if bias:
            self.bias = nnx.Param(jnp.zeros(outputs))
        self.stride = stride
        self.padding = kernel_size // 2 if padding is None else padding
        self.groups = groups
        self.dtype = dtype
        self.method = method

    def __call__(self, inputs: jax.Array) -> jax.Array:
        kernel = jnp.asarray(self.kernel[...], self.dtype)
        out = conv2d(inputs, kernel, self.stride, self.padding, self.method, self.groups)
        return out + jnp.asarray(self.bias[...], self.dtype) if self.has_bias else out


class BatchNorm(nnx.Module):
    """Batch normalisation as torch's BatchNorm2d, all statistics float32.

    With `train` it normalises by the batch's mean and biased variance and moves the running
    statistics, the variance by the unbiased one (nnx.BatchNorm keeps the biased; training
    losses do not show the difference, evaluation does). Otherwise it uses the running ones.
    """

    def __init__(
        self, features: int, *, eps: float, dtype: jnp.dtype, momentum: float = BN_MOMENTUM
    ):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.eps = eps
        self.momentum = momentum
        self.dtype = dtype

    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        scale, bias = self.scale[...], self.bias[...]
        inputs = inputs.astype(jnp.promote_types(inputs.dtype, scale.dtype))
        if train:
            count = inputs.size // inputs.shape[-1]
            if count < 2:
                raise UserError(
                    "batch normalisation needs more than one value per channel, and a batch "
                    "of one image has only one here: use larger images, another batch size "
                    "or another number of images"
                )
            mean = inputs.mean((0, 1, 2))
            var = jnp.square(inputs - mean).mean((0, 1, 2))
            running_mean, running_var = self.mean[...], self.var[...]
            unbiased = var * (count / (count - 1))
            self.mean[...] = running_mean + self.momentum * (mean - running_mean)
            self.var[...] = running_var + self.momentum * (unbiased - running_var)
        else:
            mean, var = self.mean[...], self.var[...]
        factor = scale * lax.rsqrt(var + self.eps)
        return ((inputs - mean) * factor + bias).astype(self.dtype)
