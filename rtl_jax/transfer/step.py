"""Pure functions of a training: the state, one step, one epoch, one evaluation batch.

Everything here is a function of plain pytrees, so that it can be jitted, saved and
vmapped over seeds. A `Program` holds what is static; the arrays are arguments.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rtl_jax.config import Augmentation, Transfer
from rtl_jax.data.transforms import augment_batch, example_keys, prepare
from rtl_jax.models.architecture import Architecture
from rtl_jax.models.resnet import ResNet, Variables, batch_stats_of, bind, definition
from rtl_jax.transfer.freeze import combine, cut_for, mask, partition, trainable
from rtl_jax.transfer.optim import optimizer


class TrainState(NamedTuple):
    """What training changes.

    `params` has every path, with optax.MaskedNode() where frozen; `batch_stats` holds the
    statistics that move: all of them where frozen layers use batch statistics, else those
    behind the cut.
    """

    params: dict
    batch_stats: Variables
    opt_state: optax.OptState


class Frozen(NamedTuple):
    """What training leaves as it is: parameters and statistics in front of the cut."""

    params: Variables
    batch_stats: Variables


class Metrics(NamedTuple):
    """Sums over examples, to be divided once: float loss, int correct, int number."""

    loss: jax.Array
    correct: jax.Array
    number: jax.Array

    @classmethod
    def zero(cls) -> "Metrics":
        """The neutral element of `+` over the fields."""
        return cls(jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def add(self, other: "Metrics") -> "Metrics":
        """The sums over both sets of examples."""
        return jax.tree.map(jnp.add, self, other)

    def means(self) -> dict[str, float]:
        """Mean loss (nats) and accuracy (percent), read from the device."""
        number = int(self.number)
        return {"loss": float(self.loss) / number, "accuracy": 100 * int(self.correct) / number}


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


@dataclasses.dataclass(frozen=True)
class Program:
    """The static part of a training: plain settings, so that equal ones compile once.

    With `features` the inputs are the features at the cut, computed before; otherwise they
    are images as stored (uint8 [N, H, W, C]), which are resized to `image_size` and augmented.
    """

    architecture: Architecture
    settings: Transfer
    augmentation: Augmentation
    image_size: int
    epochs: int
    num_images: int
    features: bool = False
    dtype: jnp.dtype = dataclasses.field(default_factory=lambda: jnp.dtype(jnp.float32))

    @property
    def cut(self) -> int:
        """Where what trains begins."""
        return cut_for(self.architecture, self.settings.blocks)

    @property
    def moving_prefix(self) -> bool:
        """Whether frozen layers normalise by batch statistics and move their running ones."""
        return self.settings.frozen_batch_norm == "batch"

    def replace(self, **changes: Any) -> "Program":
        """The same program with some fields changed."""
        return dataclasses.replace(self, **changes)

    def optimizer(self, params: dict) -> optax.GradientTransformation:
        """The optimizer, masked to what trains."""
        return optimizer(
            self.settings,
            mask(self.architecture, params, self.settings.blocks),
            epochs=self.epochs,
            steps_per_epoch=-(-self.num_images // self.settings.batch_size),
        )

    def start(self, params: Variables, batch_stats: Variables) -> tuple[TrainState, Frozen]:
        """Divide a network's variables into what training changes and what it does not."""
        blocks = self.settings.blocks
        trained, frozen = partition(params, mask(self.architecture, params, blocks))
        moving = {
            path: leaf
            for path, leaf in batch_stats.items()
            if self.moving_prefix or trainable(self.architecture, path, blocks)
        }
        still = {path: leaf for path, leaf in batch_stats.items() if path not in moving}
        opt_state = self.optimizer(params).init(trained)
        return TrainState(trained, moving, opt_state), Frozen(frozen, still)

    def variables(self, state: TrainState, frozen: Frozen) -> tuple[Variables, Variables]:
        """The whole network's parameters and statistics: the inverse of `start`."""
        return combine(state.params, frozen.params), {**frozen.batch_stats, **state.batch_stats}

    def network(self, params: dict, batch_stats: Variables, frozen: Frozen) -> ResNet:
        """The whole network; its frozen part comes from `frozen`."""
        return bind(
            definition(self.architecture, dtype=self.dtype),
            combine(params, frozen.params),
            {**frozen.batch_stats, **batch_stats},
        )

    def moved(self, network: ResNet, batch_stats: Variables) -> Variables:
        """The statistics of `network` at the paths of `batch_stats`."""
        new = batch_stats_of(network)
        return {path: new[path] for path in batch_stats}

    def step(
        self, state: TrainState, frozen: Frozen, inputs: jax.Array, labels: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """One step of SGD on a batch of float images (or features) and int labels [N].

        The gradient is taken of the mean cross-entropy, with respect to what trains alone:
        the prefix runs forward only.
        """
        batch_stats = state.batch_stats
        if not self.features:
            network = self.network(state.params, batch_stats, frozen)
            inputs = network.prefix(inputs, self.cut, train=self.moving_prefix)
            batch_stats = self.moved(network, batch_stats)

        def loss(params: dict) -> tuple[jax.Array, tuple[Variables, Metrics]]:
            network = self.network(params, batch_stats, frozen)
            logits = network.suffix(inputs, self.cut, train=True)
            metrics = measure(logits, labels)
            return metrics.loss / len(labels), (self.moved(network, batch_stats), metrics)

        gradient, (batch_stats, metrics) = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = self.optimizer(state.params).update(
            gradient, state.opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, batch_stats, opt_state), metrics

    def inputs_of(self, data: jax.Array, indices: jax.Array, keys: jax.Array) -> jax.Array:
        """The batch at `indices` as the step wants it; keys [N] drive the augmentation."""
        batch = data[indices]
        if self.features:
            return batch
        return augment_batch(keys, prepare(batch, self.image_size), self.augmentation)

    def epoch(
        self,
        state: TrainState,
        frozen: Frozen,
        data: jax.Array,
        labels: jax.Array,
        key: jax.Array,
        epoch: jax.Array,
    ) -> tuple[TrainState, Metrics]:
        """All images once, in an order drawn from `key` and `epoch`.

        Full batches run in one `lax.scan`; the partial one at the end is a step of its own
        shape, so that its batch statistics are its own.
        """
        order_key, augment_key = jax.random.split(key)
        total = len(labels)
        order = jax.random.permutation(jax.random.fold_in(order_key, epoch), total)
        size = self.settings.batch_size
        full = total // size

        def body(state: TrainState, indices: jax.Array) -> tuple[TrainState, Metrics]:
            keys = example_keys(augment_key, epoch, indices)
            inputs = self.inputs_of(data, indices, keys)
            return self.step(state, frozen, inputs, labels[indices])

        metrics = Metrics.zero()
        if full:
            batches = order[: full * size].reshape(full, size)
            state, parts = lax.scan(body, state, batches)
            metrics = jax.tree.map(lambda part: part.sum(0), parts)
        if total % size:
            state, rest = body(state, order[full * size :])
            metrics = metrics.add(rest)
        return state, metrics

    def evaluate(
        self,
        state: TrainState,
        frozen: Frozen,
        inputs: jax.Array,
        labels: jax.Array,
        weights: jax.Array,
    ) -> Metrics:
        """Metrics of a batch of stored images or features, with the running statistics."""
        network = self.network(state.params, state.batch_stats, frozen)
        if self.features:
            logits = network.suffix(inputs, self.cut)
        else:
            logits = network(prepare(inputs, self.image_size))
        return measure(logits, labels, weights)


run_epoch = jax.jit(Program.epoch, static_argnums=0, donate_argnums=1)
evaluate_batch = jax.jit(Program.evaluate, static_argnums=0)


@jax.jit
def all_finite(state: TrainState) -> jax.Array:
    """Whether every parameter, statistic and optimizer value is a number."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
