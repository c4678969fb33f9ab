"""The choice among candidates, and its accuracy with little of the selection's bias."""

from collections.abc import Iterator, Sequence

import numpy as np

from rtl_jax.lab.my_images.accuracy import balanced_mean
from rtl_jax.lab.my_images.held_out import HeldOut


def choose(candidates: Sequence[HeldOut], margin: float) -> HeldOut:
    """Choose the simplest candidate that is at most `margin` percentage points behind the best.

    The best has the highest balanced accuracy, which, unlike accuracy, is not raised by guessing
    the class with the most images. A candidate is simpler with fewer blocks, then with a source
    that is named earlier. Heads, rates and epochs do not differ in simplicity: for the chosen
    source and number of blocks, the best are taken.
    """
    return candidates[_choice(candidates, [each.balanced_accuracy for each in candidates], margin)]


def honest_hits(candidates: Sequence[HeldOut], margin: float) -> np.ndarray:
    """Return hits [N], each fold's by the candidate that the other folds would have chosen.

    The best of several by their results looks better than it is; here, the results on the images
    that measure accuracy have no influence on the choice. Those on the other folds still do, by
    networks that were trained on these images: with random labels of 60 images and 22 to 66
    candidates, the accuracy was 2 to 6 points too high, instead of 14. Without that, every fold
    would have to be left out of a cross-validation of its own.
    """
    found = np.empty(len(candidates[0].labels))
    for inside, chosen in honest_choices(candidates, margin):
        found[inside] = chosen.hits[inside]
    return found


def honest_choices(
    candidates: Sequence[HeldOut], margin: float
) -> Iterator[tuple[np.ndarray, HeldOut]]:
    """Yield each fold's images, bool [N], and the candidate that the others would have chosen."""
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
    """Return the source and number of blocks, between which candidates differ in simplicity."""
    return one.source, one.blocks


def best_of_kinds(candidates: Sequence[HeldOut]) -> list[HeldOut]:
    """Return the best candidate of each source, number of blocks and head, at any rate and epochs.

    They keep the candidates' order.
    """
    found: dict[tuple[str, int, str], HeldOut] = {}
    for each in candidates:
        key = (*group(each), each.candidate.head_fit)
        if key not in found or each.balanced_accuracy > found[key].balanced_accuracy:
            found[key] = each
    return list(found.values())
