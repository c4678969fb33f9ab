"""Fine-tunings that run in lockstep, one for each seed: their data, an epoch, an evaluation.

A single run is a training of one seed. Seeds that start from the same network share what is
frozen, and all share the images, of which each has its own subset.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.lab.finetune.job import Job
from rtl_jax.models.resnet import Variables
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar
from rtl_jax.train import features as prefix
from rtl_jax.train.feature_cache import Room, Store, feature_store, image_store
from rtl_jax.train.freeze import combine
from rtl_jax.train.split import CutNetwork, Frozen
from rtl_jax.train.step import (
    Batch,
    Clock,
    Metrics,
    Program,
    TrainState,
    evaluate_batch,
    logits_batch,
    train_step,
)

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Stores:
    """The training and the test images, which runs of one source, target and cut may share."""

    train: Store
    test: Store


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """Seeds in lockstep: what does not change while they train. Arrays lead with their axis."""

    program: Program
    frozen: Frozen
    keys: jax.Array  # [S, 2]: of the order of the batches, and of the augmentation
    stores: Stores
    train_rows: np.ndarray  # int [S, N], in the training store
    test_rows: np.ndarray  # int [M], or [S, M] where each seed has features of its own

    def epoch(self, state: TrainState, epoch: int) -> tuple[TrainState, Metrics]:
        """All images once, in an order drawn from each seed's key and the epoch (from 1).

        The last, partial batch is a step of its own shape, so that its batch statistics are
        its own. The state handed in is given up to the one returned.
        """
        seeds, total = self.train_rows.shape
        size = self.program.settings.batch_size
        store = self.stores.train
        program = _reading(self.program, store)
        orders, views = map(np.asarray, _draw(self.keys, epoch, total, store.views))
        rows = np.take_along_axis(self.train_rows, orders, axis=1)
        clock = Clock(jnp.asarray(epoch), jnp.asarray(-(-total // size)))
        sums = devices.seeds_apart(Metrics.zero(seeds), seeds)
        for start in range(0, total, size):
            part = np.s_[:, start : start + size]
            batch = Batch(
                store.take(rows[part], views[part]),
                jnp.asarray(store.labels[rows[part]]),
                jnp.asarray(orders[part]),
            )
            batch = devices.seeds_apart(batch, seeds)
            arguments = (self.frozen, batch, self.keys[:, 1], clock)
            state, sums = train_step(program, state, sums, *arguments)
        return state, sums

    def evaluate(self, state: TrainState) -> Metrics:
        """Metrics of every seed on the test images, with the running statistics.

        The last batch is padded and the padding weighed with 0, so that one shape is compiled.
        """
        store, seeds = self.stores.test, len(self.train_rows)
        network = _reading(self.program, store).network
        trained = Frozen(state.params, state.batch_stats)
        sums = devices.seeds_apart(Metrics.zero(seeds), seeds)
        for data in self._test_batches():
            sums = sums.add(evaluate_batch(network, store.shared, trained, self.frozen, *data))
        return sums

    def logits(self, state: TrainState) -> np.ndarray:
        """Logits of every seed on the test images, float32 [S, M, C], as `evaluate` sees them."""
        store, parts = self.stores.test, []
        network = _reading(self.program, store).network
        trained = Frozen(state.params, state.batch_stats)
        for inputs, _, weights in self._test_batches():
            found = logits_batch(network, store.shared, trained, self.frozen, inputs)
            parts.append(np.asarray(found)[:, : int(weights.sum())])
        return np.concatenate(parts, axis=1)

    def _test_batches(self) -> Iterator[tuple[jax.Array, np.ndarray, np.ndarray]]:
        """Inputs, labels and weights of the test images, batch by batch."""
        store, seeds = self.stores.test, len(self.train_rows)
        total = self.test_rows.shape[-1]
        size = min(self.program.settings.eval_batch_size, total)
        with bar("testing", total) as progress:
            for start in range(0, total, size):
                weights = np.arange(start, start + size) < total
                rows = self.test_rows[..., np.minimum(np.arange(start, start + size), total - 1)]
                axis = None if store.shared else 0
                inputs = devices.seeds_apart(store.take(rows), seeds, axis)
                yield inputs, store.labels[rows if store.shared else rows[0]], weights
                progress.update(int(weights.sum()))

    def variables(self, state: TrainState, seed: int) -> tuple[Arrays, Arrays]:
        """The whole network's parameters and statistics, those of the `seed`-th seed."""
        axes = self.program.network.frozen_axes
        params, batch_stats = (_pick(part, 0, seed) for part in state[:2])
        still = [_pick(part, axis, seed) for part, axis in zip(self.frozen, axes, strict=True)]  # type: ignore[arg-type]
        return combine(params, still[0]), {**still[1], **batch_stats}


def _pick(tree: Any, axis: int | None, seed: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf if axis is None else leaf[seed]), tree)


def _reading(program: Program, store: Store) -> Program:
    """The program, told what a store holds."""
    return program.replace(network=program.network.replace(features=store.features))


@partial(jax.jit, static_argnums=(2, 3))
def _draw(keys: jax.Array, epoch: jax.Array, total: int, views: int) -> tuple[jax.Array, jax.Array]:
    """Of every seed, the order of its images and the view of each, int [S, total]."""

    def one(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        order = jax.random.permutation(jax.random.fold_in(keys[0], epoch), total)
        chosen = jax.random.randint(jax.random.fold_in(keys[1], epoch), (total,), 0, views)
        return order, chosen

    return jax.vmap(one)(keys)


def begin(jobs: Sequence[Job], stores: Stores | None = None) -> tuple[Training, TrainState]:
    """The training of jobs that differ by seed alone, and its state before the first step.

    `stores` hold the images of these jobs and perhaps of others; None: made here.
    """
    program = _lockstep(jobs)
    variables = _variables(jobs, program)
    own = program.network.own_statistics
    if stores is None or own:
        stores = _stores(jobs, program.network, variables if own else variables[:1])
    state, frozen = _start(program, variables)
    keys = jnp.stack([jax.random.split(job.key) for job in jobs])
    test = np.stack([stores.test.rows(i, job.test_rows) for i, job in enumerate(jobs)])
    training = Training(
        program,
        devices.seeds_apart(frozen, len(jobs), program.network.frozen_axes),
        devices.seeds_apart(keys, len(jobs)),
        stores,
        np.stack([stores.train.rows(i, job.train_rows) for i, job in enumerate(jobs)]),
        test[0] if stores.test.shared else test,
    )
    return training, devices.seeds_apart(state, len(jobs))


def _lockstep(jobs: Sequence[Job]) -> Program:
    """The one program of jobs that differ by seed alone."""
    program = jobs[0].program
    assert all(job.program == program for job in jobs)
    own = any(job.pair.source is not jobs[0].pair.source for job in jobs)
    return program.replace(network=program.network.replace(many=len(jobs) > 1, own_params=own))


def _variables(jobs: Sequence[Job], program: Program) -> list[tuple[Variables, Variables]]:
    """Every job's parameters and statistics before training, on the device.

    Arrays that jobs have in common, as the same object, are there once.
    """
    placed: dict[int, jax.Array] = {}

    def place(leaf: Any) -> jax.Array:
        return placed.setdefault(id(leaf), jnp.asarray(leaf))

    variables = [jax.tree.map(place, (job.network.params, job.network.batch_stats)) for job in jobs]
    if program.network.frozen_batch_norm != "adapt":
        return variables
    adapted = []
    with bar("adapting statistics", sum(len(job.train_rows) for job in jobs)) as progress:
        for job, (params, batch_stats) in zip(jobs, variables, strict=True):
            arguments = (params, batch_stats, job.train.images, program.settings.batch_size)
            moved = prefix.adapt(program.network, *arguments, progress.update)
            adapted.append((params, moved))
    return adapted


def stores_for(jobs: Sequence[Job], room: Room | None = None) -> Stores:
    """The stores of jobs that share their source, target and cut, of any sizes and seeds.

    Not for jobs whose frozen part is their own, which `begin` makes by itself.
    """
    program = jobs[0].program
    return _stores(jobs, program.network, _variables(jobs[:1], program), room)


def _stores(
    jobs: Sequence[Job],
    network: CutNetwork,
    variables: Sequence[tuple[Variables, Variables]],
    room: Room | None = None,
) -> Stores:
    """Features where they stay valid and there is room for them; else images, as stored.

    With statistics that do not move they do, and for training images without augmentation, or
    with stored views of it. Test features come first, which are read at every evaluation.
    `variables` are those of every owner of a frozen part: one, or one for each job.
    """
    job = jobs[0]
    room = room or Room.of(job.program.settings)
    augmentation = None if job.program.augmentation.is_identity else job.program.augmentation
    dataset, owned = job.pair.dataset, len(variables) > 1
    drawn = [other.train_rows for other in jobs]
    tested = [other.test_rows for other in jobs]  # of other folds, other images
    every_train, every_test = (np.unique(np.concatenate(rows)) for rows in (drawn, tested))
    train_rows = [np.unique(rows) for rows in drawn] if owned else [every_train]
    train = test = None
    if network.constant_prefix:
        test_rows = tested if owned else [every_test]
        test = feature_store(network, variables, dataset.test, test_rows, room)
        if job.program.trains_on_features:
            arguments = (network, variables, dataset.train, train_rows, room, augmentation)
            train = feature_store(*arguments)
    return Stores(
        train or image_store(dataset.train, every_train),
        test or image_store(dataset.test, every_test),
    )


def _start(
    program: Program, variables: Sequence[tuple[Variables, Variables]]
) -> tuple[TrainState, Frozen]:
    """The state with a leading axis of seeds, and what is frozen with one where it is own."""
    trained, frozen = zip(*(program.divide(*one) for one in variables), strict=True)
    params, batch_stats = jax.tree.map(_stack, *trained)
    state = TrainState(params, batch_stats, jax.vmap(program.fresh)(params))
    axes = program.network.frozen_axes
    kept = (
        parts[0] if axis is None else jax.tree.map(_stack, *parts)
        for axis, parts in zip(axes, zip(*frozen, strict=True), strict=True)
    )
    return state, Frozen(*kept)


def _stack(*leaves: jax.Array) -> jax.Array:
    if all(leaf is leaves[0] for leaf in leaves):
        return jnp.broadcast_to(leaves[0], (len(leaves), *leaves[0].shape))
    return jnp.stack(leaves)
