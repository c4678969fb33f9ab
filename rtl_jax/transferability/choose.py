"""Rank sources and numbers of blocks by closed-form heads, without fine-tuning any."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import softmax

from rtl_jax.data.dataset import ImageSet
from rtl_jax.errors import UserError
from rtl_jax.models.network import DEFAULT_IMAGE_SIZE, Network
from rtl_jax.runtime.progress import Progress
from rtl_jax.train.freeze import split_point
from rtl_jax.transferability import scores
from rtl_jax.transferability.features import PooledFeatures, pooled_features
from rtl_jax.transferability.ridge import LeftOut, gram, ridge_left_out

MOST_IMAGES = 2000
BATCH = 128  # images that meet a network at once
_DEVIATIONS = 1.96  # of a mean over images, on either side: 95 %


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A source with a number of blocks to train, and how well closed-form heads do on it.

    loss: mean leave-one-out cross-entropy (nats) of the ridge head on the features of all
        boundaries from the split point on: what candidates are ranked by.
    behind, behind_margin: how far the loss is above the best candidate's, and the half-width of a
        95 % interval of that, over the images, paired.
    accuracy: leave-one-out accuracy of the same head (percent).
    path: the same (percent) at each of `rtl_jax.train.heads.ridge.PENALTIES`.
    scores: others by name, higher is better: `split_ridge`, of the ridge head on the features of
        the split point alone, and what the literature has for the features that the head sees:
        `log_me`, `h_score`, `leep`, `nce`, `nearest_neighbour`, `nearest_mean`.
    """

    source: str
    blocks: int
    loss: float
    behind: float
    behind_margin: float
    accuracy: float
    path: tuple[float, ...]
    scores: Mapping[str, float]


def choose(
    sources: Mapping[str, Network],
    train: ImageSet,
    num_classes: int,
    blocks: Sequence[int],
    *,
    image_size: int | None = None,
    progress: Progress = lambda done: None,
) -> list[Candidate]:
    """Rank each source with each number of blocks, the most promising first.

    Images are resized to `image_size`, by default to each network's own. Raises UserError where a
    class has fewer than two images, for more than `MOST_IMAGES`, where a network has fewer blocks,
    and for features that are not finite.
    """
    labels = train.labels
    if len(labels) > MOST_IMAGES:
        raise UserError(
            f"choose: received {len(labels):,} images, of which every pair is compared: take at "
            f"most {MOST_IMAGES:,} of them at random"
        )
    if (np.bincount(labels, minlength=num_classes) < 2).any():
        raise UserError("choose: leaving an image out takes two or more of every class")
    found: _Found = {}
    for name, network in sources.items():
        splits = {number: split_point(network.architecture, number) for number in blocks}
        size = image_size or network.image_size or DEFAULT_IMAGE_SIZE
        pooled = pooled_features(
            network, train.images, size, min(splits.values()), batch_size=BATCH, progress=progress
        )
        if not all(np.isfinite(one).all() for one in (*pooled.boundaries.values(), pooled.logits)):
            raise UserError(f"choose: the features of {name} are not finite")
        found |= _candidates(name, splits, pooled, labels, num_classes)
    best = min((left for left, *_ in found.values()), key=lambda left: left.losses.mean())
    ranked = [
        _candidate(name, number, left, others, best)
        for (name, number), (left, others) in found.items()
    ]
    return sorted(ranked, key=lambda one: one.loss)


_Found = dict[tuple[str, int], tuple[LeftOut, dict[str, float]]]


def _candidates(
    name: str, splits: Mapping[int, int], pooled: PooledFeatures, labels: np.ndarray, classes: int
) -> _Found:
    """For each number of blocks, the leave-one-out predictions and the other scores."""
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
    }
    found = {}
    for number, split in splits.items():
        every = np.sum([one for at, one in grams.items() if at >= split], axis=0)
        alone = ridge_left_out(grams[split], labels, classes)
        others = {"split_ridge": -float(alone.losses.mean()), **literature}
        found[name, number] = ridge_left_out(every, labels, classes), others
    return found


def _candidate(
    source: str, blocks: int, left: LeftOut, others: Mapping[str, float], best: LeftOut
) -> Candidate:
    behind = left.losses - best.losses
    return Candidate(
        source=source,
        blocks=blocks,
        loss=float(left.losses.mean()),
        behind=float(behind.mean()),
        behind_margin=float(_DEVIATIONS * behind.std(ddof=1) / np.sqrt(len(behind))),
        accuracy=100 * float(left.hits.mean()),
        path=tuple(100 * float(share) for share in left.path),
        scores=dict(others),
    )
