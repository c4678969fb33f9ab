"""One step of a source's training, pure: change the images, then descend (paper, equation 1).

Everything here is a function of plain pytrees. With arrays divided over devices (`devices`) the
same program runs on all of them, and its batch statistics are the whole batch's.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rtl_jax.attacks.base import Problem
from rtl_jax.attacks.gaussian import Gaussian
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.data.batches import Batch
from rtl_jax.data.transforms import augment_batch, example_keys, prepare
from rtl_jax.lab.config import Pretraining
from rtl_jax.models.model import Weights, batch_stats_of, bind, definition
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Architecture, Module, Variables
from rtl_jax.train.optimizers import sgd, step_schedule
from rtl_jax.train.step import Metrics, measure


class SourceState(NamedTuple):
    """What training changes; `average` is None unless `average_decay` is set."""

    weights: Weights
    opt_state: optax.OptState
    average: Weights | None
    step: jax.Array  # int32, steps taken

    @property
    def result(self) -> Weights:
        """What is measured and kept: the average, if there is one."""
        return self.average or self.weights


@dataclasses.dataclass(frozen=True)
class SourceProgram:
    """The static part of a training: plain settings, so that equal ones compile once."""

    architecture: Architecture
    settings: Pretraining
    augmentation: Augmentation
    image_size: int
    steps_per_epoch: int
    dtype: jnp.dtype = dataclasses.field(default_factory=lambda: jnp.dtype(jnp.float32))

    def schedule(self) -> optax.Schedule:
        """The learning rate of every step."""
        settings = self.settings
        if settings.schedule == "one_cycle":
            return optax.cosine_onecycle_schedule(
                self.steps_per_epoch * settings.epochs,
                settings.learning_rate,
                pct_start=settings.warm_up,
            )
        return step_schedule(
            settings.learning_rate,
            settings.learning_rate_drop,
            settings.drop_every or max(settings.epochs // 3, 1),
            self.steps_per_epoch,
        )

    def optimizer(self) -> optax.GradientTransformation:
        """Torch's SGD, on every parameter."""
        return sgd(self.schedule(), self.settings.momentum, self.settings.weight_decay)

    def start(self, params: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> SourceState:
        """The state before the first step."""
        weights = Weights(dict(params), dict(batch_stats))
        # A copy, since the step gives back the memory of all that it is given.
        average = None if self.settings.average_decay is None else jax.tree.map(jnp.copy, weights)
        return SourceState(
            weights, self.optimizer().init(weights.params), average, jnp.zeros((), jnp.int32)
        )

    def network(self, weights: Weights) -> Module:
        """The network with these variables."""
        graphdef = definition(self.architecture, dtype=self.dtype)
        return bind(graphdef, weights.params, weights.batch_stats)

    def perturb(
        self, weights: Weights, images: jax.Array, labels: jax.Array, keys: jax.Array
    ) -> jax.Array:
        """Float images [N, H, W, 3] as the training shall see them; one key for each.

        PGD searches in evaluation mode, with the running statistics, as `robustness` does.
        """
        settings = self.settings
        if settings.perturbation == "none":
            return images
        eps = jnp.full(len(labels), settings.eps)
        if settings.perturbation == "gaussian":
            return Gaussian(settings.norm, sigma=settings.sigma).perturb(images, eps, keys)
        attack = PGD(
            settings.norm,
            steps=settings.steps,
            relative_step=settings.relative_step,
            random_start=settings.random_start,
            keep=settings.keep,
        )
        logits_fn = Network(self.architecture, *weights).logits_fn(dtype=self.dtype)
        return attack.search(Problem(logits_fn, images, labels, eps, keys)).images

    def step(self, state: SourceState, batch: Batch, key: jax.Array) -> tuple[SourceState, Metrics]:
        """One step of SGD on a batch; metrics are those of the changed images."""
        settings = self.settings
        epoch = state.step // self.steps_per_epoch
        augment_keys, attack_keys = (
            example_keys(part, epoch, batch.indices) for part in jax.random.split(key)
        )
        images = prepare(batch.images, self.image_size)
        images = augment_batch(augment_keys, images, self.augmentation)
        images = self.perturb(state.weights, images, batch.labels, attack_keys)

        def loss(params: Variables) -> tuple[jax.Array, tuple[Variables, Metrics]]:
            network = self.network(Weights(params, state.weights.batch_stats))
            logits = network(images, train=True)
            value = smoothed_cross_entropy(logits, batch.labels, settings.label_smoothing)
            return value.mean(), (batch_stats_of(network), measure(logits, batch.labels))

        gradient, (batch_stats, metrics) = jax.grad(loss, has_aux=True)(state.weights.params)
        updates, opt_state = self.optimizer().update(
            gradient, state.opt_state, state.weights.params
        )
        weights = Weights(optax.apply_updates(state.weights.params, updates), batch_stats)
        average = self._averaged(state.average, weights, state.step)
        return SourceState(weights, opt_state, average, state.step + 1), metrics

    def step_on(
        self, state: SourceState, data: Batch, rows: jax.Array, key: jax.Array
    ) -> tuple[SourceState, Metrics]:
        """`step` on the rows, int [N], of a whole set that lies on the device."""
        return self.step(state, jax.tree.map(lambda leaf: leaf[rows], data), key)

    def _averaged(self, average: Weights | None, new: Weights, step: jax.Array) -> Weights | None:
        if average is None or self.settings.average_decay is None:
            return None
        # At first the mean of what there was, or the random beginning would stay for long.
        decay = jnp.minimum(self.settings.average_decay, (1 + step) / (10 + step))
        return jax.tree.map(lambda old, new: new + decay * (old - new), average, new)


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Cross-entropy, nats [N], to labels of which all classes share `smoothing` evenly."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if smoothing == 0:
        return losses
    even = -jax.nn.log_softmax(logits).mean(-1)
    return (1 - smoothing) * losses + smoothing * even


run_step: Any = partial(jax.jit, static_argnums=0, donate_argnums=1)(SourceProgram.step)
run_step_on: Any = partial(jax.jit, static_argnums=0, donate_argnums=1)(SourceProgram.step_on)
