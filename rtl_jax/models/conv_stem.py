"""The stem of convolutions in place of patches, as Singh, Croce and Hein (2023) have it.

3x3 convolutions, each followed by a layer normalisation and the exact GELU; a ViT's ends with a
linear 1x1 convolution.
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

EPS = 1e-6  # of its normalisations, whatever those of the blocks have


class Stage(NamedTuple):
    """A convolution of the stem; `normed` unless it is the last, linear one of a ViT's stem."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    normed: bool = True


class ConvStem(nnx.Module):
    """Map images [N, H, W, 3] to features of as many channels as the last stage has."""

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
    """All parameters of the stem."""
    return sum(
        (stage.kernel**2 * stage.inputs + 1 + 2 * stage.normed) * stage.outputs for stage in stages
    )
