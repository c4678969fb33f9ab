"""Random variables of any architecture that reveal mistakes, drawn without compilation."""

import math

import numpy as np

from rtl_jax.models.model import variable_shapes
from rtl_jax.models.registry import Architecture

Arrays = dict[str, np.ndarray]


def drawn_variables(architecture: Architecture) -> tuple[Arrays, Arrays]:
    """Draw (params, batch_stats): kernels that preserve scale, vectors in [0.5, 1.5]."""
    draw = np.random.default_rng(0)

    def filled(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 2:
            return draw.uniform(0.5, 1.5, shape).astype(np.float32)
        return (draw.normal(size=shape) * math.prod(shape[:-1]) ** -0.5).astype(np.float32)

    params, batch_stats = (
        {path: filled(leaf.shape) for path, leaf in tree.items()}
        for tree in variable_shapes(architecture)
    )
    return params, batch_stats
