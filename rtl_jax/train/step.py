"""A training step as a pure function of its state.

A `Step` holds everything static: network, freezing, optimizer, augmentation, perturbation and loss.
It is written for one seed, on plain pytrees; `side_by_side` runs any number of seeds.
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

# Folded into an image's augmentation key; the augmentation itself does not use this number.
_RANDAUGMENT = 5


class TrainState(NamedTuple):
    """The state of a training.

    `params` has every path, with optax.MaskedNode() at frozen ones. `batch_stats` holds the moving
    statistics: all of them if frozen layers use batch statistics, else those after the split point.
    `average` averages both, or is None. `step` counts the steps taken, int32.
    """

    params: dict
    batch_stats: Variables
    opt_state: optax.OptState
    average: Weights | None
    step: jax.Array

    @property
    def result(self) -> Weights:
        """The weights to evaluate and save: the average, if there is one."""
        return self.average or Weights(self.params, self.batch_stats)


class Hyper(NamedTuple):
    """Hyperparameters: the learning rate of a step, and those that are constant in a training.

    learning_rate: [steps] for many steps. weight_decay. eps: the radius of the perturbation. beta:
    the weight of TRADES' divergence. class_weights: [C], the weights of classes in the loss, or
    None. With several seeds, every array has a leading seed axis.
    """

    learning_rate: Any
    weight_decay: Any
    eps: Any
    beta: Any
    class_weights: Any = None


class Keys(NamedTuple):
    """The random keys of a training, for the order, the augmentation and the perturbation."""

    order: jax.Array
    augment: jax.Array
    perturb: jax.Array


@dataclasses.dataclass(frozen=True)
class Average:
    """An average of the weights: exponential, with a decay per step, or the mean since a step."""

    decay: float | None = None
    start: int = 0  # steps before the mean starts

    def add(self, average: Weights, new: Weights, step: jax.Array) -> Weights:
        """Update the average with the weights after the `step`-th step, counted from 0."""
        if self.decay is not None:
            # A smaller decay at first, or the random initialisation would persist for long.
            decay = jnp.minimum(self.decay, (1 + step) / (10 + step))
            return jax.tree.map(lambda old, new: new + decay * (old - new), average, new)
        # Before the mean starts, the average is the weights themselves.
        share = 1 / jnp.maximum(step + 1 - self.start, 1)
        return jax.tree.map(lambda old, new: old + share * (new - old), average, new)


@dataclasses.dataclass(frozen=True)
class Step:
    """The static description of a step; equal steps compile once.

    It contains neither the number of images nor the values in `Hyper`, so subsets of any size, and
    seeds with different rates and radii, share a program. perturb: an attack without its radius.
    trades: whether to use the TRADES loss instead of the cross-entropy of perturbed images. mixup:
    the parameter of the Beta distribution.
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
        """Whether features can replace images, unless the latter are augmented anew."""
        changed = (self.perturb, self.mixup, self.randaugment)
        return self.network.constant_prefix and all(change is None for change in changed)

    def replace(self, **changes: Any) -> "Step":
        """Return the same step with some fields changed."""
        return dataclasses.replace(self, **changes)

    # ---- The state ------------------------------------------------------------------------

    def divide(
        self, params: Variables, batch_stats: Variables
    ) -> tuple[tuple[dict, Variables], Weights]:
        """Divide variables into the (parameters, statistics) that training changes and the rest."""
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
        """Return the initial state from the parameters and statistics of `divide`."""
        # Copy, since a step donates its input buffers.
        weights = Weights(params, batch_stats)
        average = None if self.average is None else jax.tree.map(jnp.copy, weights)
        opt_state = self.transformation(params).init(params)
        return TrainState(params, batch_stats, opt_state, average, jnp.zeros((), jnp.int32))

    def transformation(self, params: dict) -> optax.GradientTransformation:
        """Make the optimizer, masked to the trainable parameters."""
        net = self.network
        return self.optimizer.transformation(net.architecture, tuple(params), net.blocks)

    # ---- A step ---------------------------------------------------------------------------

    def _logits(
        self, weights: Weights, frozen: Weights, inputs: jax.Array
    ) -> tuple[jax.Array, Variables]:
        """Compute logits of inputs at the split point in train mode, and the new statistics."""
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
        """Return the mean loss on inputs at the split point, the new statistics and metrics."""
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
        """Return the mixup loss (Zhang et al., 2018): both labels' losses in the images' shares.

        Metrics are for the label with the larger share.
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
        """Return the TRADES loss (Zhang et al., 2019, equation 5): the cross-entropy of the clean
        inputs plus beta times the divergence to the perturbed ones. Metrics are of the clean ones.
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
        """Take one step on a batch of float images (or features) and int labels [N].

        The gradient of the mean loss is taken only with respect to trainable parameters, so the
        prefix runs forward only. A perturbation needs one key per image, `keys` [N]. `mixed`
        describes how the images were mixed.
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
        """Run the prefix on float images; return its outputs and the new statistics."""
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
        """Resize and augment a batch of stored images, then take a `step` on it."""
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
