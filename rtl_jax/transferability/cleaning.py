"""Does a head gain when the training images whose labels look wrong are left out?"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rtl_jax.errors import require
from rtl_jax.runtime.intervals import mean_interval
from rtl_jax.train.heads.fit import fit_heads
from rtl_jax.transferability.ridge import gram, ridge_left_out


@dataclasses.dataclass(frozen=True, eq=False)
class Cleaning:
    """Held-out hits of ridge heads, bool [N]: each image by the head trained on the other folds.

    every: trained on `num_images` images of the other folds. without_suspects: on those but the
    `removed` ones with the largest leave-one-out loss. without_random: on those but as many drawn
    at random.
    """

    num_images: int
    removed: int
    every: np.ndarray
    without_suspects: np.ndarray
    without_random: np.ndarray

    @property
    def gain(self) -> tuple[float, float]:
        """Points of accuracy gained without the suspects, and half of its 95 % interval.

        Over the held-out images, paired.
        """
        return _points(self.without_suspects, self.every)

    @property
    def gain_at_random(self) -> tuple[float, float]:
        """`gain` without as many images drawn at random."""
        return _points(self.without_random, self.every)


def clean(
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    num_classes: int,
    *,
    shares: Sequence[float],
    part: float = 1.0,
    seed: int = 0,
) -> list[Cleaning]:
    """Cross-validate ridge heads with and without the most suspicious training images.

    Suspicion is the cross-entropy of an image's label under the ridge head fitted without that
    image, among the training images of a fold alone, so no held-out image has a say in what is
    removed.

    Args:
      features: float [N, d]. labels: int [N]. folds: int [N], the fold that holds each image out.
      shares: of the training images to remove, in (0, 1); one result for each.
      part: of the other folds' images to train on, in (0, 1]: one point of a learning curve.
      seed: of the draws of parts and of random removals.

    Raises:
      UserError: a share or part outside its range, or features that are not finite.
    """
    for share in shares:
        require(0 < share < 1, "clean: shares", "numbers between 0 and 1", share)
    require(0 < part <= 1, "clean: part", "a number above 0, up to 1", part)
    draw, held_out = np.random.default_rng(seed), np.unique(folds)
    others = [draw.permutation(np.flatnonzero(folds != fold)) for fold in held_out]
    # One size for all folds: heads of one shape are fitted in one program.
    number = max(2, int(part * min(map(len, others))))
    seen = [rows[:number] for rows in others]

    def hits(trained: list[np.ndarray]) -> np.ndarray:
        heads = fit_heads(
            "ridge", [features[rows] for rows in trained], [labels[rows] for rows in trained],
            num_classes,
        )  # fmt: skip
        found = np.zeros(len(labels), bool)
        for fold, head in zip(held_out, heads, strict=True):
            inside = folds == fold
            named = (features[inside] @ head.kernel + head.bias).argmax(1)
            found[inside] = named == labels[inside]
        return found

    every = hits(seen)
    suspects_first = [
        rows[np.argsort(-_losses(features[rows], labels[rows], num_classes), kind="stable")]
        for rows in seen
    ]
    random = [draw.permutation(rows) for rows in seen]
    found = []
    for share in shares:
        removed = min(max(1, round(share * number)), number - 2)
        cleaned, drawn = ([rows[removed:] for rows in kind] for kind in (suspects_first, random))
        found.append(Cleaning(number, removed, every, hits(cleaned), hits(drawn)))
    return found


def _losses(features: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    return ridge_left_out(gram(features), labels, num_classes).losses


def _points(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    return mean_interval(100 * (one.astype(float) - other))
