"""The compiled programs: steps and evaluations of any number of seeds in parallel.

The state has a leading seed axis, as has `Hyper`; arrays that seeds share have none.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.data.batches import Batch
from rtl_jax.models.model import Weights
from rtl_jax.train.metrics import Metrics, measure
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Hyper, Keys, Step, TrainState
from rtl_jax.train.stored import gather


def _side_by_side(function: Callable, axes: tuple, arguments: tuple, seeds: int) -> Any:
    """Apply `function` to every seed, along the `axes` of its arguments.

    A single seed is not mapped over, so that its convolutions keep their fastest form.
    """
    if seeds > 1:
        return jax.vmap(function, axes)(*arguments)

    def alone(axis: int | None, part: Any) -> Any:
        return part if axis is None else jax.tree.map(lambda leaf: leaf[0], part)

    single = jax.tree.map(alone, axes, arguments, is_leaf=lambda leaf: leaf is None)
    return jax.tree.map(lambda leaf: leaf[None], function(*single))


class Rows(NamedTuple):
    """Batches as rows of a set: int32 [S, steps, N], or [S, N] for one step.

    places: positions in the data of the set. indices: positions in each seed's training subset,
    from which augmentation keys are derived.
    """

    places: Any
    indices: Any


@partial(jax.tree_util.register_dataclass, meta_fields=("shape",), data_fields=("data", "labels"))
@dataclasses.dataclass(frozen=True)
class Images:
    """A set on the device.

    Attributes:
      data: images or features, [views * M, *stored_shape(shape)].
      labels: int32 [M].
      shape: of an image or its features.
    """

    data: jax.Array
    labels: jax.Array
    shape: tuple[int, ...]

    def batch(self, rows: Rows, dtype: Any) -> Batch:
        """Gather the images at `rows`, [N] each, and their labels."""
        labels = self.labels[rows.places % len(self.labels)]
        images = gather(self.data, rows.places).reshape(-1, *self.shape)
        return Batch(images.astype(dtype), labels, rows.indices)


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_batch(
    step: Step,
    state: TrainState,
    sums: Metrics,
    frozen: Weights,
    batch: Batch,
    keys: Keys,
    *,
    epoch: jax.Array,
    hyper: Hyper,
) -> tuple[TrainState, Metrics]:
    """Apply `Step.step_on` to seeds in parallel; every argument except `epoch` has a seed axis.

    Parts of `frozen` that seeds share have none and are not copied. Returns the state, and `sums`
    with those of this batch added.
    """
    axes = (0, step.network.frozen_axes, 0, 0, None, 0)
    arguments = (state, frozen, batch, keys, epoch, hyper)
    state, metrics = _side_by_side(step.step_on, axes, arguments, len(keys.order))
    return state, sums.add(metrics)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def train_steps(
    step: Step,
    dtype: Any,
    state: TrainState,
    sums: Metrics,
    frozen: Weights,
    images: Images,
    *,
    rows: Rows,
    keys: Keys,
    epoch: jax.Array,
    hyper: Hyper,
) -> tuple[TrainState, Metrics]:
    """Take consecutive steps on rows of a set on the device, in one compiled program.

    `rows` are [S, steps, N] and `hyper.learning_rate` [S, steps]. More than one step becomes a
    loop. Images or features are cast to `dtype`.
    """

    def one(state: TrainState, frozen: Weights, images: Images, rows: Rows, *rest: Any) -> Any:
        return step.step_on(state, frozen, images.batch(rows, dtype), *rest)

    axes = (0, step.network.frozen_axes, None, 0, 0, None, 0)
    seeds, number = rows.places.shape[:2]

    def advance(carry: tuple, each: tuple[Rows, jax.Array]) -> tuple[tuple, None]:
        state, sums = carry
        rows, rates = each
        arguments = (state, frozen, images, rows, keys, epoch, hyper._replace(learning_rate=rates))
        state, metrics = _side_by_side(one, axes, arguments, seeds)
        return (state, sums.add(metrics)), None

    every = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), (rows, hyper.learning_rate))
    if number == 1:
        return advance((state, sums), jax.tree.map(lambda leaf: leaf[0], every))[0]
    return lax.scan(advance, (state, sums), every)[0]


class Position(NamedTuple):
    """The start of a call, int32: the index among the drawn epochs, the epoch's number, the first
    image in its order, and the number of steps taken before.
    """

    drawn: Any
    epoch: Any
    image: Any
    done: Any


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3, 4))
def train_part(
    step: Step,
    dtype: Any,
    shape: tuple[int, int],
    state: TrainState,
    sums: Metrics,
    frozen: Weights,
    *,
    images: Images,
    drawn: Rows,
    position: Any,
    keys: Keys,
    hyper: Hyper,
) -> tuple[TrainState, Metrics]:
    """Apply `train_steps` to part of an epoch whose order is on the device.

    `shape` is (steps, images per step); `drawn` are the full orders of epochs, [E, S, images];
    `position` is a `Position` as an array; `hyper` has the learning rates of all steps.
    """
    number, size = shape
    at = Position(*position)

    def part(every: jax.Array) -> jax.Array:
        order = lax.dynamic_index_in_dim(every, at.drawn, keepdims=False)
        return lax.dynamic_slice_in_dim(order, at.image, number * size, 1).reshape(-1, number, size)

    rates = lax.dynamic_slice_in_dim(hyper.learning_rate, at.done, number, 1)
    return train_steps(
        step,
        dtype,
        state,
        sums,
        frozen,
        images,
        rows=jax.tree.map(part, drawn),
        keys=keys,
        epoch=at.epoch,
        hyper=hyper._replace(learning_rate=rates),
    )


@partial(jax.jit, static_argnums=(0, 1))
def evaluate_batch(
    network: SplitNetwork,
    shared: bool,
    trained: Weights,
    frozen: Weights,
    inputs: jax.Array,
    labels: jax.Array,
    *,
    weights: jax.Array,
) -> Metrics:
    """Compute metrics on a batch of stored images or features for seeds in parallel.

    `trained` are the state's parameters and moving statistics. If `shared`, all seeds see the same
    inputs [N, ...], without a seed axis. Labels and weights have none.
    """

    logits = logits_batch(network, shared, trained, frozen, inputs)
    return jax.vmap(lambda one: measure(one, labels, weights))(logits)


@partial(jax.jit, static_argnums=(0, 1))
def logits_batch(
    network: SplitNetwork, shared: bool, trained: Weights, frozen: Weights, inputs: jax.Array
) -> jax.Array:
    """Compute logits [S, N, C] of a batch; arguments as for `evaluate_batch`."""

    def one(trained: Weights, frozen: Weights, inputs: jax.Array) -> jax.Array:
        return network.logits(*trained, frozen, inputs)

    axes = (0, network.frozen_axes, None if shared else 0)
    seeds = len(jax.tree.leaves(trained)[0])
    return _side_by_side(one, axes, (trained, frozen, inputs), seeds)


@jax.jit
def all_finite(state: TrainState) -> jax.Array:
    """Return whether all parameters, statistics and optimizer state are finite, per seed [S]."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    finite = [jnp.isfinite(leaf.reshape(len(leaf), -1)).all(1) for leaf in leaves]
    return jnp.stack(finite).all(0)
