"""Estimates of the work of a training."""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtl_jax.models.model import bind, definition, variable_shapes
from rtl_jax.models.registry import Architecture, Variables
from rtl_jax.train.program import Program


class Costs(NamedTuple):
    """Cost per image and seed of a training step, a test, and computing its features once.

    It is in floating-point operations or, if measured, in seconds.
    """

    train: float
    test: float
    prefix: float

    def run(self, program: Program, images: int, tested: int) -> float:
        """Return the cost of a training with these numbers of images, without the features."""
        looks = len(program.settings.eval_epochs(program.epochs))
        return images * program.epochs * self.train + looks * tested * self.test


@lru_cache(maxsize=64)
def operations(program: Program) -> Costs:
    """Count floating-point operations: 2 per multiply-add, a backward pass as two forward."""
    network = program.network
    before, behind = flops(network.architecture, network.image_size, network.split)
    once = network.constant_prefix
    passes = 2 if program.settings.beta is not None else 1
    search = 0.0
    if program.settings.perturbation in ("pgd", "fourier"):  # forward, and backward to the images
        search = (2 * program.settings.steps + 1) * (before + behind)
    return Costs(
        passes * (3 * behind + (0 if program.trains_on_features else before)) + search,
        behind + (0 if once else before),
        before if once else 0,
    )


@lru_cache(maxsize=64)
def flops(architecture: Architecture, pixels: int, split: int) -> tuple[float, float]:
    """Return one image's operations before and after the split point; 0 if unknown."""
    network = definition(architecture, method="xla")

    def front(params: Variables, batch_stats: Variables, images: jax.Array) -> jax.Array:
        return bind(network, params, batch_stats).prefix(images, split)

    def back(params: Variables, batch_stats: Variables, features: jax.Array) -> jax.Array:
        return bind(network, params, batch_stats).suffix(features, split)

    variables = variable_shapes(architecture)
    images = jax.ShapeDtypeStruct((1, pixels, pixels, 3), jnp.float32)
    features = jax.eval_shape(front, *variables, images)
    costs = (
        jax.jit(part).lower(*variables, given).cost_analysis()
        for part, given in ((front, images), (back, features))
    )
    # There is no analysis for a part without layers, or from a backend that does not count.
    before, behind = ((cost or {}).get("flops", 0.0) for cost in costs)
    return before, behind
