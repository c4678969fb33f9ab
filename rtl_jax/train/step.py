"""Pure functions of a training: the state, one step, one evaluation batch.

They are written for one seed, as functions of plain pytrees; `train_step` and
`evaluate_batch` run any number of seeds side by side, along a leading axis of the state.
A `Program` holds what is static; the arrays are arguments.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rtl_jax.data.augmentation import Augmentation
from rtl_jax.data.transforms import augment_batch, example_keys, prepare
from rtl_jax.models.model import Weights
from rtl_jax.models.registry import Variables
from rtl_jax.train.freeze import mask, partition, trainable
from rtl_jax.train.optimizers import optimizer
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.split import SplitNetwork, moved


class TrainState(NamedTuple):
    """What training changes.

    `params` has every path, with optax.MaskedNode() where frozen; `batch_stats` holds the
    statistics that move: all of them where frozen layers use batch statistics, else those
    behind the split point.
    """

    params: dict
    batch_stats: Variables
    opt_state: optax.OptState


class Metrics(NamedTuple):
    """Sums over examples, to be divided once: float loss, int correct, int number.

    With several seeds, every array has a leading seed axis.
    """

    loss: jax.Array
    correct: jax.Array
    number: jax.Array

    @classmethod
    def zero(cls, seeds: int | None = None) -> "Metrics":
        """The neutral element of `+` over the fields, for one seed or with an axis of several."""
        shape = () if seeds is None else (seeds,)
        counts = (jnp.zeros(shape, jnp.int32) for _ in range(2))
        return cls(jnp.zeros(shape), *counts)

    def add(self, other: "Metrics") -> "Metrics":
        """The sums over both sets of examples."""
        return jax.tree.map(jnp.add, self, other)

    def means(self) -> dict[str, float]:
        """Mean loss (nats) and accuracy (percent), read from the device."""
        number = int(self.number)
        return {"loss": float(self.loss) / number, "accuracy": 100 * int(self.correct) / number}

    def each(self) -> list[dict[str, float]]:
        """`means` of every seed."""
        return [Metrics(*sums).means() for sums in zip(*map(np.asarray, self), strict=True)]


def measure(logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None) -> Metrics:
    """Cross-entropy (nats) and top-1 hits, summed over logits [N, C] and int labels [N].

    `weights` [N] of 0 and 1 leaves padding out.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (logits.argmax(-1) == labels).astype(jnp.int32)
    if weights is None:
        return Metrics(losses.sum(), hits.sum(), jnp.asarray(len(labels), jnp.int32))
    inside = weights.astype(bool)
    return Metrics(
        jnp.where(inside, losses, 0).sum(), jnp.where(inside, hits, 0).sum(), inside.sum()
    )


class TrainBatch(NamedTuple):
    """One seed's batch: stored images (uint8 [N, H, W, C]) or features, and int labels [N].

    `indices` [N], each image's place in the training subset, key its augmentation.
    """

    inputs: jax.Array
    labels: jax.Array
    indices: jax.Array


class Clock(NamedTuple):
    """Where a training is: the epoch, from 1, and the steps that each epoch has."""

    epoch: jax.Array
    steps_per_epoch: jax.Array


@dataclasses.dataclass(frozen=True)
class Program:
    """The static part of a training: plain settings, so that equal ones compile once.

    How many images there are is no part of it: subsets of any size share a program.
    """

    network: SplitNetwork
    settings: Recipe
    augmentation: Augmentation
    epochs: int

    @property
    def trains_on_features(self) -> bool:
        """Whether training images' features stay valid: no augmentation, or stored views of it."""
        drawn_anew = not self.augmentation.is_identity and not self.settings.views
        return self.network.constant_prefix and not drawn_anew

    def replace(self, **changes: object) -> "Program":
        """The same program with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def optimizer(
        self, params: dict, steps_per_epoch: int | jax.Array = 1
    ) -> optax.GradientTransformation:
        """The optimizer, masked to what trains."""
        return optimizer(
            self.settings,
            mask(self.network.architecture, params, self.network.blocks),
            epochs=self.epochs,
            steps_per_epoch=steps_per_epoch,  # type: ignore[arg-type] # traced inside a step
        )

    def divide(
        self, params: Variables, batch_stats: Variables
    ) -> tuple[tuple[dict, Variables], Weights]:
        """A network's variables as (parameters, statistics) that training changes, and the rest."""
        arch, blocks = self.network.architecture, self.network.blocks
        trained, frozen = partition(params, mask(arch, params, blocks))
        moving = {
            path: leaf
            for path, leaf in batch_stats.items()
            if self.network.moving_prefix or trainable(arch, path, blocks)
        }
        still = {path: leaf for path, leaf in batch_stats.items() if path not in moving}
        return (trained, moving), Weights(frozen, still)

    def fresh(self, params: dict) -> optax.OptState:
        """The optimizer's state before the first step on `divide`'s parameters."""
        return self.optimizer(params).init(params)

    def objective(
        self,
        params: dict,
        batch_stats: Variables,
        frozen: Weights,
        features: jax.Array,
        labels: jax.Array,
    ) -> tuple[jax.Array, tuple[Variables, Metrics]]:
        """Mean cross-entropy on features at the split point, moved statistics, metrics."""
        back = self.network.back(params, batch_stats, frozen)
        logits = back.suffix(features, self.network.split, train=True)
        metrics = measure(logits, labels)
        return metrics.loss / len(labels), (moved(back, batch_stats), metrics)

    def step(
        self,
        state: TrainState,
        frozen: Weights,
        inputs: jax.Array,
        labels: jax.Array,
        steps_per_epoch: int | jax.Array,
    ) -> tuple[TrainState, Metrics]:
        """One step of SGD on a batch of float images (or features) and int labels [N].

        The gradient is taken of the mean cross-entropy, with respect to what trains alone:
        the prefix runs forward only.
        """
        net, batch_stats = self.network, state.batch_stats
        if not net.features:
            front = net.front(state.params, batch_stats, frozen)
            inputs = front.prefix(inputs, net.split, train=net.moving_prefix)
            batch_stats = moved(front, batch_stats)

        gradient, (batch_stats, metrics) = jax.grad(self.objective, has_aux=True)(
            state.params, batch_stats, frozen, inputs, labels
        )
        updates, opt_state = self.optimizer(state.params, steps_per_epoch).update(
            gradient, state.opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, batch_stats, opt_state), metrics

    def step_on(
        self, state: TrainState, frozen: Weights, batch: TrainBatch, key: jax.Array, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        """`step` on a batch as it is stored: images are resized and augmented first."""
        inputs = batch.inputs
        if not self.network.features:
            keys = example_keys(key, clock.epoch, batch.indices)
            images = prepare(inputs, self.network.image_size)
            inputs = augment_batch(keys, images, self.augmentation)
        return self.step(state, frozen, inputs, batch.labels, clock.steps_per_epoch)


def _side_by_side(function: Callable, axes: tuple, arguments: tuple, seeds: int) -> Any:
    """`function` for every seed, along the `axes` of its arguments.

    One seed alone is no batch of one: its convolutions then keep the form that is fastest.
    """
    if seeds > 1:
        return jax.vmap(function, axes)(*arguments)

    def alone(axis: int | None, part: Any) -> Any:
        return part if axis is None else jax.tree.map(lambda leaf: leaf[0], part)

    single = jax.tree.map(alone, axes, arguments, is_leaf=lambda leaf: leaf is None)
    return jax.tree.map(lambda leaf: leaf[None], function(*single))


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_step(
    program: Program,
    state: TrainState,
    sums: Metrics,
    frozen: Weights,
    batch: TrainBatch,
    keys: jax.Array,
    *,
    clock: Clock,
) -> tuple[TrainState, Metrics]:
    """`Program.step_on` for seeds side by side: every argument but `clock` has their axis.

    What seeds share of `frozen` has none, and is not copied. Returns the state and `sums` with
    this batch's added.
    """
    axes = (0, program.network.frozen_axes, 0, 0, None)
    arguments = (state, frozen, batch, keys, clock)
    state, metrics = _side_by_side(program.step_on, axes, arguments, len(keys))
    return state, sums.add(metrics)


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
    """Metrics of a batch of stored images or features for seeds side by side.

    `trained` is the state's parameters and moving statistics; `shared` says that all seeds see
    the same inputs [N, ...], which then have no seed axis. Labels and weights have none.
    """

    logits = logits_batch(network, shared, trained, frozen, inputs)
    return jax.vmap(lambda one: measure(one, labels, weights))(logits)


@partial(jax.jit, static_argnums=(0, 1))
def logits_batch(
    network: SplitNetwork, shared: bool, trained: Weights, frozen: Weights, inputs: jax.Array
) -> jax.Array:
    """Logits [S, N, C] of a batch; arguments as those of `evaluate_batch`."""

    def one(trained: Weights, frozen: Weights, inputs: jax.Array) -> jax.Array:
        return network.logits(*trained, frozen, inputs)

    axes = (0, network.frozen_axes, None if shared else 0)
    seeds = len(jax.tree.leaves(trained)[0])
    return _side_by_side(one, axes, (trained, frozen, inputs), seeds)


@jax.jit
def all_finite(state: TrainState) -> jax.Array:
    """Of every seed, whether each parameter, statistic and optimizer value is a number."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    finite = [jnp.isfinite(leaf.reshape(len(leaf), -1)).all(1) for leaf in leaves]
    return jnp.stack(finite).all(0)
