"""The layers of networks from the time of transformers: all but convolutions and statistics.

Tokens are [N, T, width], or [N, H, W, width] where their places matter. Variables are float32;
matrices multiply in the `dtype` of their layer, normalisations and softmax in float32 at least.
"""

import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from rtl_jax.models import layers
from rtl_jax.models.in_memory import in_memory_on_cpu

Variables = dict[str, jax.Array]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]

ACTIVATIONS = layers.ACTIVATIONS | {"gelu_tanh": partial(nnx.gelu, approximate=True)}


def at_least_float32(values: jax.Array) -> jax.Array:
    """The values in a type that loses nothing in a sum or a softmax."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


class Linear(nnx.Module):
    """A linear layer; kernel [inputs, outputs], and a bias unless told otherwise."""

    def __init__(self, inputs: int, outputs: int, *, dtype: jnp.dtype, bias: bool = True):
        self.kernel = nnx.Param(jnp.zeros((inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.dtype = dtype

    def __call__(self, inputs: jax.Array) -> jax.Array:
        # As one matrix: what several leading axes become is up to XLA, and not always a product.
        rows = inputs.reshape(-1, inputs.shape[-1])
        outputs = rows @ jnp.asarray(self.kernel[...], self.dtype)
        if self.bias is not None:
            outputs = outputs + jnp.asarray(self.bias[...], self.dtype)
        return outputs.reshape(*inputs.shape[:-1], -1)


class LayerNorm(nnx.Module):
    """Normalisation of each token over its last axis, by the biased variance, as torch's."""

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
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, inner: int, *, activation: Activation, dtype: jnp.dtype):
        self.fc1 = Linear(width, inner, dtype=dtype)
        self.fc2 = Linear(inner, width, dtype=dtype)
        self.activation = activation

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(tokens)))


class PatchConv(nnx.Module):
    """A convolution whose stride is its size, as a matrix product; what does not fit is left out.

    Kernel [size, size, inputs, outputs], with a bias.
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
    # Each head's tokens side by side in memory: XLA's products of matrices with other axes between
    # their own take twice as long on a CPU.
    queries, keys, values = in_memory_on_cpu(
        tuple(part.swapaxes(-3, -2) for part in (queries, keys, values))
    )
    scale = queries.shape[-1] ** -0.5
    scores = at_least_float32((queries * scale) @ keys.swapaxes(-1, -2))
    if bias is not None:
        scores = scores + bias
    # Weights are divided by their sum behind the product, where numbers are fewer, and so in the
    # gradient, which then needs no sum over all weights.
    weights = jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True)))
    total = in_memory_on_cpu(weights.sum(-1, keepdims=True))
    sums = at_least_float32(weights.astype(values.dtype) @ values)
    return (sums / total).astype(values.dtype).swapaxes(-3, -2)


def resized_positions(
    positions: jax.Array, old: tuple[int, int], new: tuple[int, int], prefix: int
) -> jax.Array:
    """Position embeddings [1, prefix + T, width] of one grid for another, as timm has it.

    Bicubic, with antialiasing where the new grid is smaller; those of the first tokens, which have
    no place in the grid, stay.
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
    """Random parameters, in LeCun's way; statistics have mean 0 and variance 1.

    `shapes` and `stats` describe every parameter and statistic. Kernels are normal with deviation
    1 / sqrt(inputs), embeddings with 0.02, both cut at 2 deviations; scales are 1, biases 0, and
    `gamma`, which scales a branch, `architecture.initial_gamma`.
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
    # One draw cut in pieces: a draw per kernel would compile for seconds.
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
