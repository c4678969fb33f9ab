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

from rtl_jax.data.batching import padded_batches
from rtl_jax.errors import UserError
from rtl_jax.models.model import Weights
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Variables
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar
from rtl_jax.train.feature_cache import FeatureCache, Room, cache_features, cache_images
from rtl_jax.train.features import adapt_statistics
from rtl_jax.train.finetuning import FineTuning
from rtl_jax.train.freeze import combine
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import (
    Clock,
    Metrics,
    Program,
    TrainBatch,
    TrainState,
    all_finite,
    evaluate_batch,
    logits_batch,
    train_step,
)

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureCaches:
    """Training and test images, shared by runs of one source, target and split point."""

    train: FeatureCache
    test: FeatureCache | None


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """Seeds in lockstep: what does not change while they train. Arrays lead with their axis."""

    program: Program
    frozen: Weights
    keys: jax.Array  # [S, 2]: of the order of the batches, and of the augmentation
    caches: FeatureCaches
    train_rows: np.ndarray  # int [S, N], in the training cache
    test_rows: np.ndarray  # int [M], or [S, M] where each seed has features of its own

    def epoch(self, state: TrainState, epoch: int) -> tuple[TrainState, Metrics]:
        """All images once, in an order drawn from each seed's key and the epoch (from 1).

        The last, partial batch is a step of its own shape, so that its batch statistics are
        its own. The state handed in is given up to the one returned.
        """
        seeds, total = self.train_rows.shape
        size = self.program.settings.batch_size
        cache = self.caches.train
        program = _reading(self.program, cache)
        orders, views = map(np.asarray, _draw(self.keys, epoch, total, cache.views))
        rows = np.take_along_axis(self.train_rows, orders, axis=1)
        clock = Clock(jnp.asarray(epoch), jnp.asarray(-(-total // size)))
        sums = devices.seeds_apart(Metrics.zero(seeds), seeds)
        for start in range(0, total, size):
            part = np.s_[:, start : start + size]
            batch = TrainBatch(
                cache.take(rows[part], views[part]),
                jnp.asarray(cache.labels[rows[part]]),
                jnp.asarray(orders[part]),
            )
            batch = devices.seeds_apart(batch, seeds)
            arguments = (program, state, sums, self.frozen, batch, self.keys[:, 1])
            state, sums = train_step(*arguments, clock=clock)
        return state, sums

    def evaluate(self, state: TrainState) -> Metrics:
        """Metrics of every seed on the test images, with the running statistics.

        The last batch is padded and the padding weighed with 0, so that one shape is compiled.
        """
        cache, seeds = self._test_cache, len(self.train_rows)
        network = _reading(self.program, cache).network
        trained = Weights(state.params, state.batch_stats)
        sums = devices.seeds_apart(Metrics.zero(seeds), seeds)
        for inputs, labels, inside in self._test_batches():
            arguments = (network, cache.shared, trained, self.frozen, inputs, labels)
            sums = sums.add(evaluate_batch(*arguments, weights=inside))
        return sums

    def logits(self, state: TrainState) -> np.ndarray:
        """Logits of every seed on the test images, float32 [S, M, C], as `evaluate` sees them."""
        cache, parts = self._test_cache, []
        network = _reading(self.program, cache).network
        trained = Weights(state.params, state.batch_stats)
        for inputs, _, weights in self._test_batches():
            found = logits_batch(network, cache.shared, trained, self.frozen, inputs)
            parts.append(np.asarray(found)[:, : int(weights.sum())])
        return np.concatenate(parts, axis=1)

    def _test_batches(self) -> Iterator[tuple[jax.Array, np.ndarray, np.ndarray]]:
        """Inputs, labels and weights of the test images, batch by batch."""
        cache, seeds = self._test_cache, len(self.train_rows)
        total = self.test_rows.shape[-1]
        with bar("testing", total) as progress:
            for batch in padded_batches(total, self.program.settings.eval_batch_size):
                rows = self.test_rows[..., batch.rows]
                axis = None if cache.shared else 0
                inputs = devices.seeds_apart(cache.take(rows), seeds, axis)
                yield inputs, cache.labels[rows if cache.shared else rows[0]], batch.inside
                progress.update(batch.number)

    @property
    def _test_cache(self) -> FeatureCache:
        if self.caches.test is None:
            raise ValueError("these fine-tunings have no test images")
        return self.caches.test

    def network(self, state: TrainState, tuning: FineTuning, seed: int) -> Network:
        """The fine-tuned network of the `seed`-th seed, whose fine-tuning is `tuning`."""
        params, batch_stats = self.variables(state, seed)
        return tuning.network.replace(
            params=params, batch_stats=batch_stats, provenance=tuning.provenance()
        )

    def variables(self, state: TrainState, seed: int) -> tuple[Arrays, Arrays]:
        """The whole network's parameters and statistics, those of the `seed`-th seed."""
        axes = self.program.network.frozen_axes
        params, batch_stats = (_pick(part, 0, seed) for part in state[:2])
        still = [_pick(part, axis, seed) for part, axis in zip(self.frozen, axes, strict=True)]  # type: ignore[arg-type]
        return combine(params, still[0]), {**still[1], **batch_stats}


def fit(tunings: Sequence[FineTuning]) -> list[Network]:
    """Train fine-tunings that differ by seed alone, in one program; their networks, in order.

    Raises UserError where one diverges.
    """
    program, total = tunings[0].program, len(tunings[0].train_indices) * len(tunings)
    with devices.matmul_precision(program.settings.precision):
        training, state = begin(tunings)
        with bar("fine-tuning", total * program.epochs) as progress:
            for epoch in range(1, program.epochs + 1):
                state, _ = training.epoch(state, epoch)
                progress.update(total)
    finite = all_finite(state)
    if not finite.all():
        diverged = [tuning.seed for tuning, good in zip(tunings, finite, strict=True) if not good]
        raise UserError(
            f"fine-tuning diverged, with the seeds {diverged}: a parameter is not a finite number. "
            "Lower the learning rate"
        )
    return [training.network(state, tuning, index) for index, tuning in enumerate(tunings)]


def _pick(tree: Any, axis: int | None, seed: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf if axis is None else leaf[seed]), tree)


def _reading(program: Program, cache: FeatureCache) -> Program:
    """The program, told what a cache holds."""
    return program.replace(network=program.network.replace(features=cache.features))


@partial(jax.jit, static_argnums=(2, 3))
def _draw(keys: jax.Array, epoch: jax.Array, total: int, views: int) -> tuple[jax.Array, jax.Array]:
    """Of every seed, the order of its images and the view of each, int [S, total]."""

    def one(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        order = jax.random.permutation(jax.random.fold_in(keys[0], epoch), total)
        chosen = jax.random.randint(jax.random.fold_in(keys[1], epoch), (total,), 0, views)
        return order, chosen

    return jax.vmap(one)(keys)


def begin(
    tunings: Sequence[FineTuning], caches: FeatureCaches | None = None
) -> tuple[Training, TrainState]:
    """The training of fine-tunings that differ by seed alone, and its state before the first step.

    `caches` hold the images of these fine-tunings and perhaps of others; None: made here.
    """
    program = _lockstep(tunings)
    variables = _variables(tunings, program)
    own = program.network.own_statistics
    if caches is None or own:
        caches = _stores(tunings, program.network, variables if own else variables[:1])
    state, frozen = _start(program, variables)
    keys = jnp.stack([jax.random.split(tuning.key) for tuning in tunings])
    tested = caches.test or caches.train
    test = np.stack([tested.rows(i, tuning.test_indices) for i, tuning in enumerate(tunings)])
    training = Training(
        program,
        devices.seeds_apart(frozen, len(tunings), program.network.frozen_axes),
        devices.seeds_apart(keys, len(tunings)),
        caches,
        np.stack([caches.train.rows(i, tuning.train_indices) for i, tuning in enumerate(tunings)]),
        test[0] if tested.shared else test,
    )
    return training, devices.seeds_apart(state, len(tunings))


def _lockstep(tunings: Sequence[FineTuning]) -> Program:
    """The one program of fine-tunings that differ by seed alone."""
    program = tunings[0].program
    assert all(tuning.program == program for tuning in tunings)
    own = any(tuning.source is not tunings[0].source for tuning in tunings)
    return program.replace(network=program.network.replace(many=len(tunings) > 1, own_params=own))


def _variables(
    tunings: Sequence[FineTuning], program: Program
) -> list[tuple[Variables, Variables]]:
    """Every fine-tuning's parameters and statistics before training, on the device.

    Arrays that fine-tunings have in common, as the same object, are there once.
    """
    placed: dict[int, jax.Array] = {}

    def place(leaf: Any) -> jax.Array:
        return placed.setdefault(id(leaf), jnp.asarray(leaf))

    variables = [
        jax.tree.map(place, (tuning.network.params, tuning.network.batch_stats))
        for tuning in tunings
    ]
    if program.network.frozen_batch_norm != "adapt":
        return variables
    adapted = []
    with bar(
        "adapting statistics", sum(len(tuning.train_indices) for tuning in tunings)
    ) as progress:
        for tuning, (params, batch_stats) in zip(tunings, variables, strict=True):
            arguments = (
                params,
                batch_stats,
                tuning.training_images.images,
                program.settings.batch_size,
            )
            moved = adapt_statistics(program.network, *arguments, progress.update)
            adapted.append((params, moved))
    return adapted


def caches_for(tunings: Sequence[FineTuning], room: Room | None = None) -> FeatureCaches:
    """The caches of fine-tunings that share source, target and split point.

    Not for fine-tunings whose frozen part is their own, which `begin` makes by itself.
    """
    program = tunings[0].program
    return _stores(tunings, program.network, _variables(tunings[:1], program), room)


def _stores(
    tunings: Sequence[FineTuning],
    network: SplitNetwork,
    variables: Sequence[tuple[Variables, Variables]],
    room: Room | None = None,
) -> FeatureCaches:
    """Features where they stay valid and there is room for them; else images, as stored.

    With statistics that do not move they do, and for training images without augmentation, or
    with stored views of it. Test features come first, which are read at every evaluation.
    `variables` are those of every owner of a frozen part: one, or one for each fine-tuning.
    """
    tuning = tunings[0]
    room = room or Room.of(tuning.program.settings)
    augmentation = None if tuning.program.augmentation.is_identity else tuning.program.augmentation
    owned = len(variables) > 1
    drawn = [other.train_indices for other in tunings]
    tested = [other.test_indices for other in tunings]  # of other folds, other images
    every_train, every_test = (np.unique(np.concatenate(rows)) for rows in (drawn, tested))
    train_rows = [np.unique(rows) for rows in drawn] if owned else [every_train]
    train = test = None
    test_set = tuning.test
    if network.constant_prefix:
        test_rows = tested if owned else [every_test]
        if test_set is not None:
            test = cache_features(network, variables, test_set, test_rows, room)
        if tuning.program.trains_on_features:
            arguments = (network, variables, tuning.train, train_rows, room, augmentation)
            train = cache_features(*arguments)
    return FeatureCaches(
        train or cache_images(tuning.train, every_train),
        test or (None if test_set is None else cache_images(test_set, every_test)),
    )


def _start(
    program: Program, variables: Sequence[tuple[Variables, Variables]]
) -> tuple[TrainState, Weights]:
    """The state with a leading axis of seeds, and what is frozen with one where it is own."""
    trained, frozen = zip(*(program.divide(*one) for one in variables), strict=True)
    params, batch_stats = jax.tree.map(_stack, *trained)
    state = TrainState(params, batch_stats, jax.vmap(program.fresh)(params))
    axes = program.network.frozen_axes
    kept = (
        parts[0] if axis is None else jax.tree.map(_stack, *parts)
        for axis, parts in zip(axes, zip(*frozen, strict=True), strict=True)
    )
    return state, Weights(*kept)


def _stack(*leaves: jax.Array) -> jax.Array:
    if all(leaf is leaves[0] for leaf in leaves):
        return jnp.broadcast_to(leaves[0], (len(leaves), *leaves[0].shape))
    return jnp.stack(leaves)
