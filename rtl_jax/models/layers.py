"""The convolution and the batch normalisation of every network here.

Both follow torch to the letter where Flax or XLA would differ: padding is explicit, and
the running variance is the unbiased one. The convolution has two forms with equal values:

- 'xla': `lax.conv_general_dilated`, cuDNN's on a GPU.
- 'dot': the k x k shifted slices side by side, times the kernel as a matrix. On a CPU it is
  faster than XLA's (1.2 to 1.5 times on ResNet-50; up to 52 times inside `lax.scan` and
  `lax.map`), and under `vmap` over kernels it stays a batched matrix product where XLA's
  turns into a grouped convolution.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from rtl_jax.errors import UserError

ConvMethod = Literal["xla", "dot"]

BN_EPSILON = 1e-5
BN_MOMENTUM = 0.1  # torch's: the weight of the new batch


def choose_convolution(*, batched_weights: bool = False, backend: str | None = None) -> ConvMethod:
    """The form to use on a backend ('cpu', 'gpu', 'tpu'; the default one if None).

    `batched_weights` says that the kernels will have a leading axis under `vmap`, one per seed.
    """
    backend = backend or jax.default_backend()
    return "dot" if backend == "cpu" or batched_weights else "xla"


def conv2d(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int, method: ConvMethod
) -> jax.Array:
    """Convolve NHWC images [N, H, W, I] with an HWIO kernel, zero-padded on every side."""
    if method == "xla":
        return lax.conv_general_dilated(
            images,
            kernel,
            window_strides=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    height, width, inputs, outputs = kernel.shape
    if padding:
        images = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    out_height = (images.shape[1] - height) // stride + 1
    out_width = (images.shape[2] - width) // stride + 1
    slices = [
        lax.slice(
            images,
            (0, row, column, 0),
            (
                images.shape[0],
                row + (out_height - 1) * stride + 1,
                column + (out_width - 1) * stride + 1,
                inputs,
            ),
            (1, stride, stride, 1),
        )
        for row in range(height)
        for column in range(width)
    ]
    patches = slices[0] if len(slices) == 1 else jnp.concatenate(slices, axis=-1)
    matrix = kernel.reshape(height * width * inputs, outputs)
    return lax.dot_general(patches, matrix, (((3,), (0,)), ((), ())))


class Conv(nnx.Module):
    """A convolution without bias; kernel [k, k, inputs, outputs] in float32, padding k // 2.

    Like every layer here it only declares its variables: `resnet.initialize` draws them.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        *,
        dtype: jnp.dtype,
        method: ConvMethod,
    ):
        self.kernel = nnx.Param(jnp.zeros((kernel_size, kernel_size, inputs, outputs)))
        self.stride = stride
        self.padding = kernel_size // 2
        self.dtype = dtype
        self.method = method

    def __call__(self, inputs: jax.Array) -> jax.Array:
        kernel = jnp.asarray(self.kernel[...], self.dtype)
        return conv2d(inputs, kernel, self.stride, self.padding, self.method)


class BatchNorm(nnx.Module):
    """Batch normalisation as torch's BatchNorm2d: eps 1e-5, momentum 0.1, all statistics float32.

    With `train` it normalises by the batch's mean and biased variance and moves the running
    statistics, the variance by the unbiased one (nnx.BatchNorm keeps the biased; training
    losses do not show the difference, evaluation does). Otherwise it uses the running ones.
    """

    def __init__(self, features: int, *, dtype: jnp.dtype):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
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
            self.mean[...] = running_mean + BN_MOMENTUM * (mean - running_mean)
            self.var[...] = running_var + BN_MOMENTUM * (unbiased - running_var)
        else:
            mean, var = self.mean[...], self.var[...]
        factor = scale * lax.rsqrt(var + BN_EPSILON)
        return ((inputs - mean) * factor + bias).astype(self.dtype)
