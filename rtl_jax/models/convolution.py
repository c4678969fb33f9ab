"""The convolution used by all networks, with torch's explicit padding.

It has three implementations with equal values:

- 'xla': `lax.conv_general_dilated` and its own gradient; cuDNN's on a GPU.
- 'dot': the k x k shifted slices, concatenated, times the kernel as a matrix. It supports all
  modes and orders of differentiation, and under `vmap` over kernels it remains a batched matrix
  product, whereas XLA's becomes a grouped convolution, which is slow on a CPU and may be on a GPU.
- 'eigen': the fastest on a CPU, inside and outside loops. See `models.eigen`.
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

# The number of channels of the dense convolutions that replace grouped ones on a CPU.
_DENSE_WIDTH = 64


def choose_convolution(*, batched_weights: bool = False, backend: str | None = None) -> ConvMethod:
    """Choose the implementation for a backend ('cpu', 'gpu', 'tpu'; None: the default one).

    `batched_weights` says that kernels will have a leading axis under `vmap`, one per seed.
    """
    backend = backend or devices.platform()
    # A TPU's compiler handles grouped convolutions well: half the bytes of batched products.
    if batched_weights and backend != "tpu":
        return "dot"
    return "eigen" if backend == "cpu" else "xla"


def conv2d(
    images: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: int,
    method: ConvMethod,
    groups: int = 1,
) -> jax.Array:
    """Convolve NHWC images [N, H, W, I] with an HWIO kernel, zero-padded on every side.

    With `groups`, the kernel is [k, k, I / groups, O], and each group of outputs depends on its own
    group of inputs, in order.

    'eigen' supports reverse-mode differentiation of any order but no forward mode; for
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
    """Apply `conv2d` with several groups; depthwise if each has one input and one output."""
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
    # Merge neighbouring groups into a few dense convolutions whose kernels are zero between groups:
    # a product as small as a single group's is slower than a larger one of mostly zeros.
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

    `padding` is k // 2 by default. Like every layer here, it only declares its variables;
    `initial.initialize` draws them.
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
