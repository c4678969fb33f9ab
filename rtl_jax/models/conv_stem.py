"""The convolutional stem of Singh, Croce and Hein (2023), which replaces patches.

It has 3x3 convolutions, each followed by layer normalisation and the exact GELU. In a ViT, it ends
with a linear 1x1 convolution.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.models.activations import ACTIVATIONS
from rtl_jax.models.convolution import Conv, ConvMethod
from rtl_jax.models.token_layers import LayerNorm

EPS = 1e-6  # of its normalisations, independently of the blocks


class Stage(NamedTuple):
    """A convolution of the stem; `normed` except for the last, linear one in a ViT."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    normed: bool = True


class ConvStem(nnx.Module):
    """Maps images [N, H, W, 3] to features with the channels of the last stage."""

    def __init__(self, stages: Sequence[Stage], *, dtype: jnp.dtype, method: ConvMethod):
        self.convs = nnx.List(
            Conv(inputs, outputs, kernel, stride, bias=True, dtype=dtype, method=method)
            for inputs, outputs, kernel, stride, _ in stages
        )
        self.norms = nnx.List(
            LayerNorm(stage.outputs, eps=EPS, dtype=dtype) for stage in stages if stage.normed
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        for conv, norm in itertools.zip_longest(self.convs, self.norms):
            images = conv(images)
            if norm is not None:
                images = ACTIVATIONS["gelu"](norm(images))
        return images


def num_parameters(stages: Sequence[Stage]) -> int:
    """Return the number of parameters of the stem."""
    return sum(
        (stage.kernel**2 * stage.inputs + 1 + 2 * stage.normed) * stage.outputs for stage in stages
    )
