"""A step of training, pure: what it changes, and how.

A `Step` holds what is static, the recipe of a step: network, freezing, optimizer, augmentation,
perturbation and loss. It is written for one seed, on plain pytrees; `side_by_side` runs any number
of seeds.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rtl_jax.attacks.base import Attack
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.data.batches import Batch
from rtl_jax.data.randaugment import RandAugment
from rtl_jax.data.transforms import augment_batch, example_keys, prepare
from rtl_jax.models.model import Weights
from rtl_jax.models.registry import Variables
from rtl_jax.train.freeze import mask, partition, trainable
from rtl_jax.train.metrics import Metrics, measure, smoothed_cross_entropy, weighted_mean
from rtl_jax.train.mixup import Mixed
from rtl_jax.train.optimizers import Optimizer, at
from rtl_jax.train.perturb import divergence, perturb
from rtl_jax.train.split import SplitNetwork, moved

# What an image's key of the augmentation is folded with, which it does not fold in itself.
_RANDAUGMENT = 5


class TrainState(NamedTuple):
    """What training changes.

    `params` has every path, with optax.MaskedNode() where frozen; `batch_stats` holds the
    statistics that move: all of them where frozen layers use batch statistics, else those
    behind the split point. `average` is of both, or None. `step` counts the steps taken, int32.
    """

    params: dict
    batch_stats: Variables
    opt_state: optax.OptState
    average: Weights | None
    step: jax.Array

    @property
    def result(self) -> Weights:
        """What is measured and kept: the average, if there is one."""
        return self.average or Weights(self.params, self.batch_stats)


class Hyper(NamedTuple):
    """A step's numbers: the rate, which the schedule has for it, and those of a whole training.

    learning_rate: [steps] for many steps. weight_decay. eps: the perturbation's radius. beta: the
    weight of TRADES' divergence. class_weights: [C], of each class's images in the loss, or
    None. With several seeds, every array has a leading seed axis.
    """

    learning_rate: Any
    weight_decay: Any
    eps: Any
    beta: Any
    class_weights: Any = None


class Keys(NamedTuple):
    """Random keys of a training: of the batches' order, the augmentation, the perturbation."""

    order: jax.Array
    augment: jax.Array
    perturb: jax.Array


@dataclasses.dataclass(frozen=True)
class Average:
    """An average of the weights: exponential, with a decay per step, or the mean since a step."""

    decay: float | None = None
    start: int = 0  # of the mean: steps before it

    def add(self, average: Weights, new: Weights, step: jax.Array) -> Weights:
        """The average with what the weights are after the `step`-th step, counted from 0."""
        if self.decay is not None:
            # At first the mean of what there was, or the random beginning would stay for long.
            decay = jnp.minimum(self.decay, (1 + step) / (10 + step))
            return jax.tree.map(lambda old, new: new + decay * (old - new), average, new)
        # Before it starts, the weights themselves.
        share = 1 / jnp.maximum(step + 1 - self.start, 1)
        return jax.tree.map(lambda old, new: old + share * (new - old), average, new)


@dataclasses.dataclass(frozen=True)
class Step:
    """The recipe of a step, static: equal ones compile once.

    How many images there are is no part of it, nor what is in `Hyper`: subsets of any size, and
    seeds with rates and radii of their own, share a program. perturb: an attack without its radius.
    trades: the loss is TRADES', else the perturbed images' cross-entropy. mixup: the parameter of
    the shares' distribution.
    """

    network: SplitNetwork
    augmentation: Augmentation
    optimizer: Optimizer
    perturb: Attack | None = None
    trades: bool = False
    label_smoothing: float = 0.0
    average: Average | None = None
    mixup: float | None = None
    randaugment: RandAugment | None = None

    @property
    def trains_on_features(self) -> bool:
        """Whether images that are not augmented anew can be features at the split point."""
        changed = (self.perturb, self.mixup, self.randaugment)
        return self.network.constant_prefix and all(change is None for change in changed)

    def replace(self, **changes: Any) -> "Step":
        """The same step with some fields changed."""
        return dataclasses.replace(self, **changes)

    # ---- The state ------------------------------------------------------------------------

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

    def start(self, params: dict, batch_stats: Variables) -> TrainState:
        """The state before the first step, of `divide`'s parameters and statistics."""
        # A copy, since the step gives back the memory of all that it is given.
        weights = Weights(params, batch_stats)
        average = None if self.average is None else jax.tree.map(jnp.copy, weights)
        opt_state = self.transformation(params).init(params)
        return TrainState(params, batch_stats, opt_state, average, jnp.zeros((), jnp.int32))

    def transformation(self, params: dict) -> optax.GradientTransformation:
        """The optimizer, masked to what trains."""
        net = self.network
        return self.optimizer.transformation(net.architecture, tuple(params), net.blocks)

    # ---- A step ---------------------------------------------------------------------------

    def _logits(
        self, weights: Weights, frozen: Weights, inputs: jax.Array
    ) -> tuple[jax.Array, Variables]:
        """Logits of inputs at the split point, in train mode, and the statistics as they moved."""
        back = self.network.back(*weights, frozen)
        logits = back.suffix(inputs, self.network.split, train=True)
        return logits, moved(back, weights.batch_stats)

    def objective(
        self,
        params: dict,
        batch_stats: Variables,
        frozen: Weights,
        inputs: jax.Array,
        labels: jax.Array,
        *,
        class_weights: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[Variables, Metrics]]:
        """Mean loss on inputs at the split point, moved statistics, metrics."""
        logits, batch_stats = self._logits(Weights(params, batch_stats), frozen, inputs)
        metrics = measure(logits, labels)
        if self.label_smoothing or class_weights is not None:
            losses = smoothed_cross_entropy(logits, labels, self.label_smoothing)
            loss = weighted_mean(losses, labels, class_weights)
        else:
            loss = metrics.loss / len(labels)
        return loss, (batch_stats, metrics)

    def mixup_objective(
        self,
        params: dict,
        batch_stats: Variables,
        frozen: Weights,
        inputs: jax.Array,
        labels: jax.Array,
        *,
        mixed: Mixed,
        class_weights: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[Variables, Metrics]]:
        """Zhang et al. (2018): the loss of either label of mixed images, in the images' shares.

        Metrics are of the first label where its share is the larger, else of the second.
        """
        logits, batch_stats = self._logits(Weights(params, batch_stats), frozen, inputs)

        def loss(labels: jax.Array) -> jax.Array:
            losses = smoothed_cross_entropy(logits, labels, self.label_smoothing)
            return weighted_mean(losses, labels, class_weights)

        others, share = labels[mixed.order], mixed.share
        whole = share * loss(labels) + (1 - share) * loss(others)
        measured = measure(logits, jnp.where(share >= 0.5, labels, others))
        return whole, (batch_stats, measured)

    def trades_objective(
        self,
        params: dict,
        batch_stats: Variables,
        frozen: Weights,
        inputs: tuple[jax.Array, jax.Array],
        labels: jax.Array,
        *,
        beta: jax.Array,
        class_weights: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[Variables, Metrics]]:
        """Zhang et al. (2019), equation 5: cross-entropy of the first inputs, the images as they
        are, and beta times the divergence to the second, perturbed ones; metrics of the first.
        """
        clean, perturbed = inputs
        own, batch_stats = self._logits(Weights(params, batch_stats), frozen, clean)
        other, batch_stats = self._logits(Weights(params, batch_stats), frozen, perturbed)
        losses = smoothed_cross_entropy(own, labels, self.label_smoothing)
        loss = weighted_mean(losses, labels, class_weights)
        apart = divergence(jax.nn.log_softmax(own), jax.nn.log_softmax(other)).mean()
        return loss + beta * apart, (batch_stats, measure(own, labels))

    def step(
        self,
        state: TrainState,
        frozen: Weights,
        inputs: jax.Array,
        labels: jax.Array,
        hyper: Hyper,
        keys: jax.Array | None = None,
        *,
        mixed: Mixed | None = None,
    ) -> tuple[TrainState, Metrics]:
        """One step on a batch of float images (or features) and int labels [N].

        The gradient is taken of the mean loss, with respect to what trains alone: the prefix runs
        forward only. A perturbation takes a key for each image, `keys` [N]. Images that are mixed
        come with how they are.
        """
        clean, batch_stats = inputs, state.batch_stats
        if self.perturb is not None:
            inputs = self._perturbed(state, frozen, inputs, labels, hyper.eps, keys)
        loss: Callable[..., Any] = self.objective
        behind = inputs
        if mixed is not None:
            loss = partial(self.mixup_objective, mixed=mixed)
        if self.trades:
            loss = partial(self.trades_objective, beta=hyper.beta)
            clean, batch_stats = self._front(state.params, batch_stats, frozen, clean)
        if not self.network.features:
            behind, batch_stats = self._front(state.params, batch_stats, frozen, inputs)
        if hyper.class_weights is not None:
            loss = partial(loss, class_weights=hyper.class_weights)
        gradient, (batch_stats, metrics) = jax.grad(loss, has_aux=True)(
            state.params, batch_stats, frozen, (clean, behind) if self.trades else behind, labels
        )
        opt_state = at(state.opt_state, hyper.learning_rate, hyper.weight_decay)
        updates, opt_state = self.transformation(state.params).update(
            gradient, opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if self.average is not None and average is not None:
            average = self.average.add(average, Weights(params, batch_stats), state.step)
        return TrainState(params, batch_stats, opt_state, average, state.step + 1), metrics

    def _front(
        self, params: dict, batch_stats: Variables, frozen: Weights, images: jax.Array
    ) -> tuple[jax.Array, Variables]:
        """Float images at the split point, and the statistics as the prefix has moved them."""
        front = self.network.front(params, batch_stats, frozen)
        inputs = front.prefix(images, self.network.split, train=self.network.moving_prefix)
        return inputs, moved(front, batch_stats)

    def _perturbed(
        self,
        state: TrainState,
        frozen: Weights,
        images: jax.Array,
        labels: jax.Array,
        eps: jax.Array,
        keys: jax.Array | None,
    ) -> jax.Array:
        def logits_fn(images: jax.Array) -> jax.Array:
            return self.network.apply(state.params, state.batch_stats, frozen, images)

        assert keys is not None
        return lax.stop_gradient(perturb(self.perturb, logits_fn, images, labels, eps, keys))

    def step_on(
        self,
        state: TrainState,
        frozen: Weights,
        batch: Batch,
        keys: Keys,
        epoch: jax.Array,
        hyper: Hyper,
    ) -> tuple[TrainState, Metrics]:
        """`step` on a batch as it is stored: images are resized and augmented first."""
        inputs, drawn, mixed = batch.images, None, None
        if not self.network.features:
            augment = example_keys(keys.augment, epoch, batch.indices)
            images = prepare(inputs, self.network.image_size)
            inputs = augment_batch(augment, images, self.augmentation)
            if self.randaugment is not None:
                each = jax.vmap(jax.random.fold_in, (0, None))(augment, _RANDAUGMENT)
                inputs = self.randaugment.batch(each, inputs)
            if self.mixup is not None:
                mixed = Mixed.draw(keys.augment, state.step, self.mixup, len(batch.labels))
                inputs = mixed.mix(inputs)
            if self.perturb is not None:
                drawn = example_keys(keys.perturb, epoch, batch.indices)
        return self.step(state, frozen, inputs, batch.labels, hyper, drawn, mixed=mixed)
