"""The choice among candidates, and what accuracy it may be expected to have."""

from collections.abc import Iterator, Sequence

import numpy as np

from rtl_jax.lab.my_images.accuracy import balanced_mean
from rtl_jax.lab.my_images.held_out import HeldOut


def choose(candidates: Sequence[HeldOut], margin: float) -> HeldOut:
    """The simplest candidate that is at most `margin` points of percent behind the best.

    The best has the greatest balanced accuracy, which cannot be had by guessing as accuracy can
    where one class has most of the images. Simpler is with fewer blocks, and then by a source that
    is named earlier. Heads, rates and epochs are not simpler than one another: of one source and
    number of blocks the best is taken.
    """
    return candidates[_choice(candidates, [each.balanced_accuracy for each in candidates], margin)]


def honest_hits(candidates: Sequence[HeldOut], margin: float) -> np.ndarray:
    """Hits [N] where each fold is told by the candidate that the other folds would have chosen.

    The best of several by their results looks better than it is; here the images that measure
    accuracy have no say in the choice.
    """
    found = np.empty(len(candidates[0].labels))
    for inside, chosen in honest_choices(candidates, margin):
        found[inside] = chosen.hits[inside]
    return found


def honest_choices(
    candidates: Sequence[HeldOut], margin: float
) -> Iterator[tuple[np.ndarray, HeldOut]]:
    """For each fold, its images, bool [N], and the candidate that the others would have chosen."""
    folds, labels = candidates[0].folds, candidates[0].labels
    hits_MN = np.stack([each.hits for each in candidates])
    for fold in np.unique(folds):
        inside = folds == fold
        elsewhere = [100 * balanced_mean(hits[~inside], labels[~inside]) for hits in hits_MN]
        yield inside, candidates[_choice(candidates, elsewhere, margin)]


def _choice(candidates: Sequence[HeldOut], accuracies: Sequence[float], margin: float) -> int:
    simplest = sorted(range(len(candidates)), key=lambda index: candidates[index].blocks)
    least = max(accuracies) - margin
    first = candidates[next(index for index in simplest if accuracies[index] >= least)]
    alike = [index for index, each in enumerate(candidates) if group(each) == group(first)]
    return max(alike, key=lambda index: accuracies[index])


def group(one: HeldOut) -> tuple[str, int]:
    """Source and blocks, in which candidates of one kind agree."""
    return one.source, one.blocks


def best_of_kinds(candidates: Sequence[HeldOut]) -> list[HeldOut]:
    """The best candidate of each source, number of blocks and head, at any rate and epochs.

    Their order is that of the candidates.
    """
    found: dict[tuple[str, int, str], HeldOut] = {}
    for each in candidates:
        key = (*group(each), each.candidate.head_fit)
        if key not in found or each.balanced_accuracy > found[key].balanced_accuracy:
            found[key] = each
    return list(found.values())
