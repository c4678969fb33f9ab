"""Rank sources and numbers of blocks by closed-form heads, without any fine-tuning."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from rtl_jax.data.dataset import ImageSet
from rtl_jax.errors import UserError, require
from rtl_jax.models.network import DEFAULT_IMAGE_SIZE, Network
from rtl_jax.runtime.intervals import mean_interval, wilson_interval
from rtl_jax.runtime.progress import Progress
from rtl_jax.train.freeze import split_point
from rtl_jax.transferability import scores
from rtl_jax.transferability.features import PooledFeatures, pooled_features
from rtl_jax.transferability.ridge import LeftOut, gaussian_gram, gram, ridge_left_out, subset_gram

MOST_IMAGES = 2000
BATCH = 128  # images in a batch
DRAWS = 5  # subsets of one size
_DEVIATIONS = 1.96  # standard errors on either side of a mean over images: 95 %


class CurvePoint(NamedTuple):
    """Leave-one-out results of the ridge head on random subsets of one size.

    Each subset has its own penalty.

    loss, accuracy: means over the draws (nats; in [0, 1]).
    low, high: a 95 % interval of the accuracy: the wider of Wilson's, over the distinct images left
    out, and Student's t over the draws, which share images.
    """

    num_images: int
    draws: int
    loss: float
    accuracy: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A source with a number of blocks to train, and the results of closed-form heads on it.

    loss: mean leave-one-out cross-entropy (nats) of the ridge head on the features of all
      boundaries from the split point on, by which candidates are ranked.
    behind, behind_margin: the difference from the best candidate's loss, and the half-width of its
      95 % interval, paired over images.
    accuracy: leave-one-out accuracy of the same head, in [0, 1].
    path: the same at each of `rtl_jax.train.heads.ridge.PENALTIES`.
    curve: a `CurvePoint` for each requested subset size.
    scores: other scores by name; higher is better. `split_ridge` and `kernel_ridge` are minus the
      leave-one-out losses of the ridge head on the features of the split point alone, and of one
      with a Gaussian kernel on the features that the head receives. The others are scores from the
      literature on the latter: `log_me`, `h_score`, `leep`, `nce`, `nearest_neighbour`,
      `nearest_mean`.
    """

    source: str
    blocks: int
    loss: float
    behind: float
    behind_margin: float
    accuracy: float
    path: tuple[float, ...]
    scores: Mapping[str, float]
    curve: tuple[CurvePoint, ...] = ()


def choose(
    sources: Mapping[str, Network],
    train: ImageSet,
    num_classes: int,
    blocks: Sequence[int],
    *,
    image_size: int | None = None,
    num_images: Sequence[int] = (),
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> list[Candidate]:
    """Rank each source with each number of blocks, the most promising first.

    Images are resized to `image_size`, by default to each network's own. `num_images` are the sizes
    of random subsets for `Candidate.curve`, with `draws` subsets of each size.

    Raises UserError for a class with fewer than two images, more than `MOST_IMAGES`, a network with
    fewer blocks than requested, subsets larger than the set or too small for two images of every
    class, and non-finite features.
    """
    labels = train.labels
    if len(labels) > MOST_IMAGES:
        raise UserError(
            f"choose: received {len(labels):,} images, of which every pair is compared: take at "
            f"most {MOST_IMAGES:,} of them at random"
        )
    if (np.bincount(labels, minlength=num_classes) < 2).any():
        raise UserError(
            "choose: expected two or more images of every class, since each is left out once"
        )
    subsets = {
        size: draw_subsets(labels, num_classes, size, draws, seed) for size in sorted({*num_images})
    }
    found: _Found = {}
    for name, network in sources.items():
        splits = {number: split_point(network.architecture, number) for number in blocks}
        size = image_size or network.image_size or DEFAULT_IMAGE_SIZE
        pooled = pooled_features(
            network, train.images, size, min(splits.values()), batch_size=BATCH, progress=progress
        )
        if not all(np.isfinite(one).all() for one in (*pooled.boundaries.values(), pooled.logits)):
            raise UserError(f"choose: the features of {name} are not finite")
        found |= _candidates(name, splits, pooled, labels, num_classes, subsets=subsets)
    best = min((one.left for one in found.values()), key=lambda left: left.losses.mean())
    ranked = [_candidate(*key, one, best) for key, one in found.items()]
    return sorted(ranked, key=lambda one: one.loss)


def draw_subsets(
    labels: np.ndarray, num_classes: int, size: int, draws: int, seed: int
) -> list[np.ndarray]:
    """Draw the rows of random subsets of one size with at least two images of every class.

    The whole set is returned once. Raises UserError as `choose`.
    """
    most, least = len(labels), 2 * num_classes
    expected = f"sizes from {least}, two for each class, to {most}, all"
    require(least <= size <= most, "choose: num_images", expected, size)
    require(draws > 0, "choose: draws", "a positive number", draws)
    if size == most:
        return [np.arange(most)]
    found, drawn = [], np.random.default_rng((seed, size))
    for _ in range(draws):
        order = drawn.permutation(most)
        by_class = [order[labels[order] == label] for label in range(num_classes)]
        first = np.concatenate([rows[:2] for rows in by_class])
        rest = order[~np.isin(order, first)]
        found.append(np.sort(np.concatenate([first, rest[: size - least]])))
    return found


class _Measured(NamedTuple):
    """Leave-one-out results on all images, other scores, and the curve."""

    left: LeftOut
    others: dict[str, float]
    curve: tuple[CurvePoint, ...]


_Found = dict[tuple[str, int], _Measured]


def _candidates(
    name: str,
    splits: Mapping[int, int],
    pooled: PooledFeatures,
    labels: np.ndarray,
    classes: int,
    *,
    subsets: Mapping[int, Sequence[np.ndarray]],
) -> _Found:
    """Compute, for each number of blocks, leave-one-out predictions and the other scores."""
    grams = {split: gram(features) for split, features in pooled.boundaries.items()}
    head = pooled.boundaries[max(pooled.boundaries)].astype(np.float64)
    probabilities = softmax(pooled.logits.astype(np.float64), axis=1)
    literature = {
        "log_me": scores.log_me(head, labels),
        "h_score": scores.h_score(head, labels),
        "leep": scores.leep(probabilities, labels),
        "nce": scores.nce(probabilities, labels),
        "nearest_neighbour": scores.nearest_neighbour(head, labels),
        "nearest_mean": scores.nearest_mean(head, labels),
        "kernel_ridge": -float(ridge_left_out(gaussian_gram(head), labels, classes).losses.mean()),
    }
    found = {}
    for number, split in splits.items():
        used = [one for at, one in grams.items() if at >= split]
        alone = ridge_left_out(grams[split], labels, classes)
        others = {"split_ridge": -float(alone.losses.mean()), **literature}
        whole = ridge_left_out(np.sum(used, axis=0), labels, classes)
        curve = tuple(_point(used, rows, labels, classes) for rows in subsets.values())
        found[name, number] = _Measured(whole, others, curve)
    return found


def _point(
    grams: Sequence[np.ndarray], subsets: Sequence[np.ndarray], labels: np.ndarray, classes: int
) -> CurvePoint:
    """Compute leave-one-out results on several subsets of the same size."""
    left = [
        ridge_left_out(
            np.sum([subset_gram(one, rows) for one in grams], axis=0), labels[rows], classes
        )
        for rows in subsets
    ]
    accuracy, margin = mean_interval([one.hits.mean() for one in left])
    distinct = len(np.unique(np.concatenate(subsets)))
    low, high = (one / 100 for one in wilson_interval(100 * accuracy, distinct))
    return CurvePoint(
        num_images=len(subsets[0]),
        draws=len(subsets),
        loss=float(np.mean([one.losses.mean() for one in left])),
        accuracy=accuracy,
        low=float(np.clip(np.fmin(low, accuracy - margin), 0, 1)),  # one draw: nan, so Wilson's
        high=float(np.clip(np.fmax(high, accuracy + margin), 0, 1)),
    )


def _candidate(source: str, blocks: int, measured: _Measured, best: LeftOut) -> Candidate:
    left, others, curve = measured
    behind = left.losses - best.losses
    return Candidate(
        source=source,
        blocks=blocks,
        loss=float(left.losses.mean()),
        behind=float(behind.mean()),
        behind_margin=float(_DEVIATIONS * behind.std(ddof=1) / np.sqrt(len(behind))),
        accuracy=float(left.hits.mean()),
        path=tuple(map(float, left.path)),
        scores=others,
        curve=curve,
    )
