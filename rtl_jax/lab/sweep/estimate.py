"""Estimates of the memory and work of a training, and the number of seeds per program."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rtl_jax.data.transforms import prepare
from rtl_jax.models.model import bind, definition, variable_shapes
from rtl_jax.models.registry import Architecture, Variables
from rtl_jax.runtime import devices, resources
from rtl_jax.train.features import feature_shape
from rtl_jax.train.program import Program

# The share of free memory for seeds in one program, whose size is only estimated.
_SHARE = 0.6


def tree_bytes(tree: Any) -> int:
    """Return the bytes of a pytree's arrays, or of their descriptions."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@lru_cache(maxsize=64)
def seed_bytes(program: Program) -> int:
    """Return the bytes per additional seed, at the largest batch of the settings.

    They hold the trained parameters with their gradient, update, optimizer state and average, the
    inputs, the residuals of the forward pass, and the larger of a prefix without a backward pass,
    if features are not cached, and a perturbation's search.
    """
    network, size = program.network, program.settings.batch_size
    params, batch_stats = variable_shapes(network.architecture)
    step = program.step()
    (trained, moving), frozen = step.divide(params, batch_stats)
    one = feature_shape(network) if network.split >= 0 else _images(program, 1)
    shape = one.shape[1:] if network.split < 0 else one.shape
    inputs = jax.ShapeDtypeStruct((size, *shape), one.dtype)
    labels = jax.ShapeDtypeStruct((size,), jnp.int32)

    def residuals(trained: dict, moving: Variables, *rest: Any) -> Any:
        # The reverse function's leaves are its residuals; this is only traced, never computed.
        _, reverse, _ = jax.vjp(
            lambda params: step.objective(params, moving, *rest), trained, has_aux=True
        )
        return jax.tree.leaves(reverse)

    kept = jax.eval_shape(residuals, trained, moving, frozen, inputs, labels)
    # The optimizer's state, in addition to each parameter, its gradient and its update.
    opt_state = jax.eval_shape(step.start, trained, moving).opt_state
    own = 3 * tree_bytes(trained) + tree_bytes(opt_state)
    averaged = 0 if step.average is None else tree_bytes(trained)
    others = max(_prefix_bytes(program), _search_bytes(program))
    return own + averaged + tree_bytes(kept) + tree_bytes(inputs) + others


def _images(program: Program, number: int) -> jax.ShapeDtypeStruct:
    size = program.network.image_size
    return jax.ShapeDtypeStruct((number, size, size, 3), jnp.float32)


def _prefix_bytes(program: Program) -> int:
    """Return the bytes of the two largest arrays of a prefix that runs in every step, else 0."""
    network = program.network
    if network.split < 0 or program.trains_on_features:
        return 0

    def one(params: Variables, batch_stats: Variables, images: jax.Array) -> jax.Array:
        front = network.front(params, batch_stats, program.step().divide(params, batch_stats)[1])
        pixels = prepare(images, network.image_size)
        return front.prefix(pixels, network.split, train=network.moving_prefix)

    images = _images(program, program.settings.batch_size)
    equations = jax.make_jaxpr(one)(*variable_shapes(network.architecture), images).eqns
    sizes = sorted(tree_bytes([out.aval for out in equation.outvars]) for equation in equations)
    return sum(sizes[-2:])


def _search_bytes(program: Program) -> int:
    """Return the bytes of the residuals of a perturbation's search; 0 without one."""
    step, network = program.step(), program.network
    if step.perturb is None:
        return 0

    def residuals(images: jax.Array, params: Variables, batch_stats: Variables) -> Any:
        (trained, moving), frozen = step.divide(params, batch_stats)
        _, reverse = jax.vjp(lambda x: network.apply(trained, moving, frozen, x), images)
        return jax.tree.leaves(reverse)

    images = _images(program, program.settings.batch_size)
    return tree_bytes(jax.eval_shape(residuals, images, *variable_shapes(network.architecture)))


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


def seeds_at_once(
    program: Program, seeds: int, free: Callable[[], int] = resources.device_free
) -> int:
    """Return how many of `seeds` run in one program, unless `sweep.seeds_at_once` is set.

    On an accelerator, as many as fit in memory, times this host's devices, over which they are
    divided. On a CPU, where parallel seeds gain nothing, attacked or not (measured in
    docs/benchmarks.md), one per device, unless only the head trains: its steps are so short that
    dispatching them dominates.
    """
    number = jax.local_device_count()
    short = program.network.blocks == 0 and not program.settings.perturbs
    if devices.platform() == "cpu" and not short:
        return min(seeds, number)
    return max(1, min(seeds, int(_SHARE * free() / seed_bytes(program)) * number))
