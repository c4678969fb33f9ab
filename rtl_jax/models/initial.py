"""Initialisation of convolutional networks, as for torchvision's ResNets."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.models.description import Description

Variables = dict[str, jax.Array]


def initialize(
    architecture: Description, key: jax.Array, shapes: Variables, stats: Variables
) -> tuple[Variables, Variables]:
    """Draw parameters as torchvision does, and initial statistics (mean 0, variance 1).

    `shapes` and `stats` describe every parameter and statistic.

    Convolutions are normal with He's variance (fan-out), the head is uniform within
    +-1 / sqrt(features), scales are 1, biases 0.
    """
    kernels = [path for path in shapes if path.endswith("kernel") and path not in architecture.head]
    sizes = [math.prod(shapes[path].shape) for path in kernels]
    key, head_key = jax.random.split(key)
    # Split a single draw: one draw per kernel would take seconds to compile.
    draws = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    params: Variables = {}
    for path, shape in shapes.items():
        params[path] = jnp.ones(shape.shape) if path.endswith("scale") else jnp.zeros(shape.shape)
    for path, draw in zip(kernels, draws, strict=True):
        *area, _, outputs = shapes[path].shape
        params[path] = draw.reshape(shapes[path].shape) * math.sqrt(2 / (math.prod(area) * outputs))
    for path, part in zip(architecture.head, jax.random.split(head_key), strict=True):
        bound = 1 / math.sqrt(shapes[architecture.head[0]].shape[0])
        params[path] = jax.random.uniform(part, shapes[path].shape, minval=-bound, maxval=bound)
    batch_stats = {
        path: jnp.ones(shape.shape) if path.endswith("var") else jnp.zeros(shape.shape)
        for path, shape in stats.items()
    }
    return params, batch_stats
