"""The layers of transformers and related networks, except convolutions and batch normalisation.

Tokens are [N, T, width], or [N, H, W, width] if their positions matter. Variables are float32;
matrix products use the `dtype` of their layer, normalisation and softmax at least float32.
"""

import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from rtl_jax.models import activations
from rtl_jax.models.in_memory import in_memory_on_cpu

Variables = dict[str, jax.Array]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]

ACTIVATIONS = activations.ACTIVATIONS | {"gelu_tanh": partial(nnx.gelu, approximate=True)}


def at_least_float32(values: jax.Array) -> jax.Array:
    """Cast values to at least float32, for sums and softmax."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


class Linear(nnx.Module):
    """A linear layer with kernel [inputs, outputs] and, by default, a bias."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, bias: bool = True):
        self.kernel = nnx.Param(jnp.zeros((inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.dtype = dtype

    def __call__(self, inputs: jax.Array) -> jax.Array:
        # Flatten to a matrix: with several leading axes, XLA does not always use a matrix product.
        rows = inputs.reshape(-1, inputs.shape[-1])
        outputs = rows @ jnp.asarray(self.kernel[...], self.dtype)
        if self.bias is not None:
            outputs = outputs + jnp.asarray(self.bias[...], self.dtype)
        return outputs.reshape(*inputs.shape[:-1], -1)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis with the biased variance, as in torch."""

    def __init__(self, width: int, *, eps: float, dtype: jnp.dtype):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.eps = eps
        self.dtype = dtype

    def __call__(self, inputs: jax.Array) -> jax.Array:
        scale, bias = self.scale[...], self.bias[...]
        inputs = inputs.astype(jnp.promote_types(inputs.dtype, scale.dtype))
        mean = in_memory_on_cpu(inputs.mean(-1, keepdims=True))
        var = jnp.square(inputs - mean).mean(-1, keepdims=True)
        factor = in_memory_on_cpu(lax.rsqrt(var + self.eps))
        return ((inputs - mean) * factor * scale + bias).astype(self.dtype)


class Mlp(nnx.Module):
    """Two linear layers with an activation in between."""

    def __init__(self, width: int, inner: int, *, activation: Activation, dtype: jnp.dtype):
        self.fc1 = Linear(width, inner, dtype=dtype)
        self.fc2 = Linear(inner, width, dtype=dtype)
        self.activation = activation

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(tokens)))


class PatchConv(nnx.Module):
    """A convolution with stride equal to its size, as a matrix product; remainders are dropped.

    It has a kernel [size, size, inputs, outputs] and a bias.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, dtype: jnp.dtype):
        self.kernel = nnx.Param(jnp.zeros((size, size, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.dtype = dtype

    def __call__(self, images: jax.Array) -> jax.Array:
        kernel, bias = (jnp.asarray(part[...], self.dtype) for part in (self.kernel, self.bias))
        size, _, inputs, outputs = kernel.shape
        batch, height, width, _ = images.shape
        rows, columns = height // size, width // size
        squares = images[:, : rows * size, : columns * size]
        squares = squares.reshape(batch, rows, size, columns, size, inputs)
        patches = squares.transpose(0, 1, 3, 2, 4, 5).reshape(-1, size * size * inputs)
        tokens = patches @ kernel.reshape(-1, outputs) + bias
        return tokens.reshape(batch, rows, columns, outputs)


def attend(
    queries: jax.Array, keys: jax.Array, values: jax.Array, bias: jax.Array | None = None
) -> jax.Array:
    """Softmax attention of [..., T, heads, d] queries, keys and values; a bias [..., heads, T, S].

    Returns [..., T, heads, d].
    """
    # Store each head's tokens contiguously: on a CPU, XLA's matrix products take twice as long if
    # other axes lie between those of a matrix.
    queries, keys, values = in_memory_on_cpu(
        tuple(part.swapaxes(-3, -2) for part in (queries, keys, values))
    )
    scale = queries.shape[-1] ** -0.5
    scores = at_least_float32((queries * scale) @ keys.swapaxes(-1, -2))
    if bias is not None:
        scores = scores + bias
    # Divide by the sum of the weights after the product, where there are fewer numbers; the
    # gradient then needs no sum over all weights either.
    weights = jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True)))
    total = in_memory_on_cpu(weights.sum(-1, keepdims=True))
    sums = at_least_float32(weights.astype(values.dtype) @ values)
    return (sums / total).astype(values.dtype).swapaxes(-3, -2)


def resized_positions(
    positions: jax.Array, old: tuple[int, int], new: tuple[int, int], prefix: int
) -> jax.Array:
    """Resize position embeddings [1, prefix + T, width] to another grid, as in timm.

    Bicubic, with antialiasing if the new grid is smaller. The first `prefix` embeddings, which are
    not in the grid, are unchanged.
    """
    if old == new:
        return positions
    first, grid = positions[:, :prefix], positions[:, prefix:]
    width = grid.shape[-1]
    resized = jax.image.resize(
        grid.reshape(1, *old, width), (1, *new, width), "cubic", antialias=True
    )
    return jnp.concatenate([first, resized.reshape(1, -1, width)], axis=1)


def initialize(
    architecture: Any, key: jax.Array, shapes: Variables, stats: Variables
) -> tuple[Variables, Variables]:
    """Draw parameters by LeCun's initialisation; statistics have mean 0 and variance 1.

    `shapes` and `stats` describe every parameter and statistic. Kernels are normal with standard
    deviation 1 / sqrt(inputs), embeddings with 0.02, both truncated at 2 deviations. Scales are 1,
    biases 0, and `gamma`, which scales a branch, is `architecture.initial_gamma`.
    """
    constants = {
        "scale": 1.0,
        "temperature": 1.0,
        "bias": 0.0,
        "gamma": getattr(architecture, "initial_gamma", 1.0),
    }
    params: Variables = {}
    drawn = []
    for path, described in shapes.items():
        last = path.split("/")[-1]
        if last in constants:
            params[path] = jnp.full(described.shape, constants[last])
        else:
            drawn.append(path)
    sizes = [math.prod(shapes[path].shape) for path in drawn]
    # Split a single draw: one draw per kernel would take seconds to compile.
    draws = jax.random.truncated_normal(key, -2, 2, (sum(sizes),))
    for path, draw in zip(drawn, jnp.split(draws, np.cumsum(sizes)[:-1]), strict=True):
        shape = shapes[path].shape
        deviation = math.prod(shape[:-1]) ** -0.5 if path.endswith("kernel") else 0.02
        params[path] = deviation * draw.reshape(shape)
    batch_stats = {
        path: jnp.ones(shape.shape) if path.endswith("var") else jnp.zeros(shape.shape)
        for path, shape in stats.items()
    }
    return {path: params[path] for path in shapes}, batch_stats
