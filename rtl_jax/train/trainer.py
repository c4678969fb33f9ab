"""Trainings of several seeds in lockstep: data, steps and evaluation.

A single run is a training of one seed. Fine-tunings from the same network share its frozen part;
all share the images, of which each uses its own subset.
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
from rtl_jax.runtime.progress import bar
from rtl_jax.train.feature_cache import FeatureCache, Room, cache_features, cache_images
from rtl_jax.train.features import adapt_statistics
from rtl_jax.train.feeds import Feed, InMemory
from rtl_jax.train.finetuning import FineTuning
from rtl_jax.train.freeze import combine
from rtl_jax.train.heads.fit import FittedHead
from rtl_jax.train.heads.start import fit_start
from rtl_jax.train.metrics import Metrics
from rtl_jax.train.placement import Placement, SeedsApart
from rtl_jax.train.program import Program
from rtl_jax.train.side_by_side import evaluate_batch, logits_batch
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Hyper, Keys, Step, TrainState

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureCaches:
    """Cached training and test images, shared by runs of one source, target and split point."""

    train: FeatureCache
    test: FeatureCache | None


@dataclasses.dataclass(frozen=True, eq=False)
class TestImages:
    """The test images of seeds in lockstep: `rows` of a cache, int [M], or [S, M] if each seed has
    its own features.
    """

    cache: FeatureCache
    rows: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """The constant part of a training of seeds in lockstep. Arrays have a leading seed axis."""

    program: Program
    step: Step  # for images or features, whichever the feed holds
    frozen: Weights
    hyper: Hyper  # learning_rate [S, steps of the whole training], the others [S]
    feed: Feed
    placement: Placement
    test: TestImages | None = None
    heads: Sequence[FittedHead] = ()  # the initial head of each seed; empty: drawn at random

    @classmethod
    def of(
        cls,
        program: Program,
        frozen: Weights,
        feed: Feed,
        placement: Placement,
        *,
        programs: Sequence[Program] = (),
        features: bool = False,
        test: TestImages | None = None,
        heads: Sequence[FittedHead] = (),
        class_weights: np.ndarray | None = None,
    ) -> "Training":
        """Make a training. `programs` has one program per seed if their hyperparameters differ;
        `class_weights` are [S, C].
        """
        step = program.step(feed.steps_per_epoch)
        step = step.replace(network=step.network.replace(features=features))
        numbers = [one.hyper(feed.steps_per_epoch) for one in programs or [program]]
        hyper = jax.tree.map(lambda *each: np.stack(each), *numbers)
        hyper = hyper._replace(class_weights=class_weights)
        return cls(program, step, frozen, hyper, feed, placement, test, heads)

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len(self.hyper.weight_decay)

    @property
    def num_steps(self) -> int:
        """The number of steps of the whole training."""
        return self.program.epochs * self.feed.steps_per_epoch

    def zero(self) -> Metrics:
        """Return zero sums on the host, where creating them in every epoch is cheapest."""
        floats, whole = jax.dtypes.canonicalize_dtype(float), np.int32
        return Metrics(*(np.zeros(self.seeds, dtype) for dtype in (floats, whole, whole)))  # type: ignore[arg-type]

    def advance(
        self, state: TrainState, sums: Metrics, done: int
    ) -> tuple[TrainState, Metrics, int]:
        """Take some steps after `done`, at most to the end of the epoch; also return their number.

        The buffers of `state` and `sums` are donated.
        """
        return self.feed.advance(self.step, state, sums, self.frozen, done, hyper=self.hyper)

    def epoch(self, state: TrainState, epoch: int) -> tuple[TrainState, Metrics]:
        """Take all steps of an epoch, counted from 1. The buffers of `state` are donated."""
        sums = self.zero()
        done, end = ((number * self.feed.steps_per_epoch) for number in (epoch - 1, epoch))
        while done < end:
            state, sums, number = self.advance(state, sums, done)
            done += number
        return state, sums

    def evaluate(self, state: TrainState) -> Metrics:
        """Compute metrics of every seed on the test images, with the running statistics.

        The last batch is padded, with weight 0, so that only one shape is compiled.
        """
        cache = self._test_images.cache
        network = self.program.network.replace(features=cache.features)
        sums = self.zero()
        for inputs, labels, inside in self._test_batches():
            arguments = (network, cache.shared, state.result, self.frozen, inputs, labels)
            sums = sums.add(evaluate_batch(*arguments, weights=inside))
        return sums

    def logits(self, state: TrainState) -> np.ndarray:
        """Compute logits of every seed on the test images, float32 [S, M, C], as in `evaluate`."""
        cache, parts = self._test_images.cache, []
        network = self.program.network.replace(features=cache.features)
        for inputs, _, weights in self._test_batches():
            found = logits_batch(network, cache.shared, state.result, self.frozen, inputs)
            parts.append(np.asarray(found)[:, : int(weights.sum())])
        return np.concatenate(parts, axis=1)

    def _test_batches(self) -> Iterator[tuple[jax.Array, np.ndarray, np.ndarray]]:
        """Yield batches of inputs, labels and weights of the test images."""
        cache, every = self._test_images.cache, self._test_images.rows
        total = every.shape[-1]
        with bar("testing", total) as progress:
            for batch in padded_batches(total, self.program.settings.eval_batch_size):
                rows = every[..., batch.rows]
                axis = None if cache.shared else 0
                inputs = self.placement.state(cache.take(rows), axis)
                yield inputs, cache.labels[rows if cache.shared else rows[0]], batch.inside
                progress.update(batch.number)

    @property
    def _test_images(self) -> TestImages:
        if self.test is None:
            raise ValueError("these trainings have no test images")
        return self.test

    def network(self, state: TrainState, tuning: FineTuning, seed: int) -> Network:
        """Return the fine-tuned network of the `seed`-th seed, whose fine-tuning is `tuning`."""
        params, batch_stats = self.variables(state, seed)
        return tuning.network.replace(
            params=params, batch_stats=batch_stats, provenance=self.provenance(tuning, seed)
        )

    def provenance(self, tuning: FineTuning, seed: int) -> dict[str, Any]:
        """Return the provenance recorded in the network of the `seed`-th seed."""
        if not self.heads:
            return tuning.provenance()
        fitted = {**self.heads[seed].record, "epochs": self.program.epochs}
        return {**tuning.provenance(), "head_fit": fitted}

    def variables(self, state: TrainState, seed: int) -> tuple[Arrays, Arrays]:
        """Return all parameters and statistics of the `seed`-th seed's network."""
        axes = self.program.network.frozen_axes
        params, batch_stats = (_pick(part, 0, seed) for part in state.result)
        still = [_pick(part, axis, seed) for part, axis in zip(self.frozen, axes, strict=True)]  # type: ignore[arg-type]
        return combine(params, still[0]), {**still[1], **batch_stats}


def _pick(tree: Any, axis: int | None, seed: int) -> Any:
    return jax.tree.map(np.asarray, tree if axis is None else _of_seed(tree, seed))


@jax.jit
def _of_seed(tree: Any, seed: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[seed], tree)


def begin(
    tunings: Sequence[FineTuning], caches: FeatureCaches | None = None
) -> tuple[Training, TrainState]:
    """Return the training of fine-tunings that differ only by seed, and its initial state.

    `caches` hold the images of these fine-tunings and possibly of others; None: made here.
    """
    program, placement = lockstep(tunings), SeedsApart(len(tunings))
    variables = _variables(tunings, program)
    own = program.network.own_statistics
    if caches is None or own:
        caches = _stores(tunings, program.network, variables if own else variables[:1])
    heads: Sequence[FittedHead] = ()
    if program.settings.head_fit != "sgd":
        heads = fit_start(tunings, program, variables, caches.train)
        paths = program.network.architecture.head
        variables = [
            ({**params, **dict(zip(paths, jax.device_put(head[:2]), strict=True))}, statistics)
            for (params, statistics), head in zip(variables, heads, strict=True)
        ]
    state, frozen = _start(program.step(), variables)
    feed = InMemory(
        caches.train,
        np.stack([caches.train.rows(i, tuning.train_indices) for i, tuning in enumerate(tunings)]),
        placement.state(_keys([tuning.key for tuning in tunings])),
        program.settings.batch_size,
        placement,
    )
    test = None
    if caches.test is not None:
        rows = [caches.test.rows(i, tuning.test_indices) for i, tuning in enumerate(tunings)]
        test = TestImages(caches.test, rows[0] if caches.test.shared else np.stack(rows))
    training = Training.of(
        program,
        placement.state(frozen, program.network.frozen_axes),
        feed,
        placement,
        programs=[tuning.program for tuning in tunings],
        class_weights=_class_weights(tunings),
        features=caches.train.features,
        test=test,
        heads=heads,
    )
    return training, placement.state(state)


def _class_weights(tunings: Sequence[FineTuning]) -> np.ndarray | None:
    """Compute each seed's class weights, images / (classes * images of the class), or None.

    A class without training images has weight 0.
    """
    if tunings[0].program.settings.class_weights == "none":
        return None
    classes = len(tunings[0].class_names)
    counts = np.stack(
        [np.bincount(tuning.training_images.labels, minlength=classes) for tuning in tunings]
    )
    weights = counts.sum(1, keepdims=True) / (classes * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


@jax.jit
def _keys(own: Sequence[jax.Array]) -> Keys:
    """Derive a key of each kind from every seed's own, [S]."""
    every = jnp.stack(own)
    two = jax.vmap(jax.random.split)(every)
    return Keys(two[:, 0], two[:, 1], jax.vmap(lambda key: jax.random.fold_in(key, 2))(every))


def lockstep(tunings: Sequence[FineTuning]) -> Program:
    """Return the shared program of fine-tunings that differ only by seed and hyperparameters."""
    program = tunings[0].program
    assert all(tuning.program.step() == program.step() for tuning in tunings)
    assert all(tuning.program.epochs == program.epochs for tuning in tunings)
    own = any(tuning.source is not tunings[0].source for tuning in tunings)
    return program.replace(network=program.network.replace(many=len(tunings) > 1, own_params=own))


def _variables(
    tunings: Sequence[FineTuning], program: Program
) -> list[tuple[Variables, Variables]]:
    """Put the initial parameters and statistics of every fine-tuning on the device.

    Arrays that fine-tunings share, as the same object, are placed once.
    """
    owned = [(tuning.network.params, tuning.network.batch_stats) for tuning in tunings]
    # One call for all takes a tenth of the time of one call for each.
    placed = jax.device_put({id(leaf): leaf for leaf in jax.tree.leaves(owned)})
    variables = jax.tree.map(lambda leaf: placed[id(leaf)], owned)
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
    """Make the caches of fine-tunings that share source, target and split point.

    If fine-tunings have their own frozen parts, `begin` makes the caches instead.
    """
    program = tunings[0].program
    return _stores(tunings, program.network, _variables(tunings[:1], program), room)


def _stores(
    tunings: Sequence[FineTuning],
    network: SplitNetwork,
    variables: Sequence[tuple[Variables, Variables]],
    room: Room | None = None,
) -> FeatureCaches:
    """Cache features if they stay valid and there is room for them, else the stored images.

    Features stay valid if statistics do not move and, for training images, without augmentation or
    with stored views. Test features have priority, since every evaluation reads them. `variables`
    has one entry for each owner of a frozen part: one in all, or one per fine-tuning.
    """
    tuning = tunings[0]
    room = room or Room.of(tuning.program.settings)
    augmentation = None if tuning.program.augmentation.is_identity else tuning.program.augmentation
    owned = len(variables) > 1
    drawn = [other.train_indices for other in tunings]
    tested = [other.test_indices for other in tunings]  # they differ between folds
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
            views = tuning.program.settings.views
            if train is None and augmentation is not None and views is not None:
                raise UserError(
                    f"transfer.views: there is no room for the features of {views} views of "
                    f"{len(every_train):,} images: choose fewer, transfer.feature_bits=16, or "
                    "none, which augments images anew in every epoch"
                )
    return FeatureCaches(
        train or cache_images(tuning.train, every_train),
        test or (None if test_set is None else cache_images(test_set, every_test)),
    )


def _start(
    step: Step, variables: Sequence[tuple[Variables, Variables]]
) -> tuple[TrainState, Weights]:
    """Return the state with a leading seed axis, and the frozen part with one if not shared."""
    trained, frozen = zip(*(step.divide(*one) for one in variables), strict=True)
    leaves, structure = zip(*map(jax.tree.flatten, trained), strict=True)
    state = _started(
        step, structure[0], len(variables), [_once(*of) for of in zip(*leaves, strict=True)]
    )
    axes = step.network.frozen_axes
    kept = (
        parts[0] if axis is None else _stacked(parts)
        for axis, parts in zip(axes, zip(*frozen, strict=True), strict=True)
    )
    return state, Weights(*kept)


# One program each: of many small operations outside one, each would be compiled by itself.
@jax.jit
def _stacked(trees: Sequence[Any]) -> Any:
    """Stack the leaves of trees along a seed axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _started(step: Step, structure: Any, seeds: int, leaves: list) -> TrainState:
    """`Step.start` with a seed axis, from leaves of `_once`."""
    stacked = [
        jnp.stack(leaf) if isinstance(leaf, tuple) else jnp.broadcast_to(leaf, (seeds, *leaf.shape))
        for leaf in leaves
    ]
    return jax.vmap(step.start)(*jax.tree.unflatten(structure, stacked))


def _once(*leaves: jax.Array) -> jax.Array | tuple[jax.Array, ...]:
    """Return an array of all seeds once if they share it."""
    return leaves[0] if all(leaf is leaves[0] for leaf in leaves) else leaves
