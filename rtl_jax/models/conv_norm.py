"""A convolution with batch normalisation and activation, shared by most families."""

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.models.activations import ACTIVATIONS
from rtl_jax.models.batch_norm import BN_MOMENTUM, BatchNorm
from rtl_jax.models.convolution import Conv, ConvMethod
from rtl_jax.models.expansion import normalised


class ConvNorm(nnx.Module):
    """`conv`, `norm` and an activation given by name, or 'none'."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        *,
        activation: str,
        groups: int = 1,
        bias: bool = False,
        eps: float = 1e-5,
        momentum: float = BN_MOMENTUM,
        dtype: jnp.dtype,
        method: ConvMethod,
    ):
        self.conv = Conv(
            inputs,
            outputs,
            kernel_size,
            stride,
            groups=groups,
            bias=bias,
            dtype=dtype,
            method=method,
        )
        self.norm = BatchNorm(outputs, eps=eps, dtype=dtype, momentum=momentum)
        self.activation = activation

    def __call__(self, features: jax.Array, train: bool) -> jax.Array:
        return ACTIVATIONS[self.activation](normalised(self.conv, self.norm, features, train))
