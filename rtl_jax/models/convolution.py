"""The convolution of every network here, with torch's explicit padding.

It has three forms with equal values:

- 'xla': `lax.conv_general_dilated` and its own gradient, cuDNN's on a GPU.
- 'dot': the k x k shifted slices side by side, times the kernel as a matrix. It can be
  differentiated in every mode as often as one likes, and under `vmap` over kernels it stays
  a batched matrix product where XLA's turns into a grouped convolution.
- 'eigen': for a CPU the fastest, in loops and outside. See `models.eigen`.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from rtl_jax.models.depthwise import depthwise_with_gradients, shifted_products
from rtl_jax.models.eigen import eigen_convolution
from rtl_jax.models.plain_convolution import dot_convolution, xla_convolution
from rtl_jax.runtime import devices

ConvMethod = Literal["xla", "dot", "eigen"]

# Channels of the dense convolutions that grouped ones are computed by on a CPU.
_DENSE_WIDTH = 64


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
        return xla_convolution(images, kernel, ((padding, padding),) * 2, stride=stride)
    if method == "dot" or kernel.shape[:2] == (1, 1):
        return dot_convolution(images, kernel, stride, padding)
    return eigen_convolution(images, kernel, stride, padding)


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
