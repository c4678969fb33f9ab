"""Accuracy with its interval, and the references that it needs if classes differ in size.

There are N images and C classes. Always naming the largest class scores its share of the images, so
accuracy says nothing until it exceeds that; balanced accuracy, the mean over classes, is 100 / C
for every guess that does not look at the image.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv, ndtri

from rtl_jax.lab.report.learning_curve import LearningCurve
from rtl_jax.lab.statistics import CONFIDENCE, wilson_interval


def balanced_mean(hits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of hits, [N] in [0, 1], averaged over the classes that have an image."""
    return float(np.mean(_by_class(hits, labels)[0]))


def _by_class(hits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each class's hits and its number of images, for classes with images."""
    counts = np.bincount(labels)
    there = counts > 0
    return np.bincount(labels, weights=hits)[there] / counts[there], counts[there]


def _exact_intervals(right: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Clopper and Pearson's 95 % intervals in percent.

    With several seeds, `right` may be fractional.
    """
    tail, wrong = (1 - CONFIDENCE) / 2, images - right
    lows = np.where(right > 0, betaincinv(np.where(right > 0, right, 1), wrong + 1, tail), 0)
    highs = np.where(wrong > 0, betaincinv(right + 1, np.where(wrong > 0, wrong, 1), 1 - tail), 1)
    return 100 * lows, 100 * highs


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A percentage with its 95 % interval (Wilson's) and the number of images behind it."""

    percent: float
    low: float
    high: float
    images: int

    @classmethod
    def of(cls, hits: np.ndarray) -> "Accuracy":
        """Compute the accuracy of hits in [0, 1], [N], of one image or more."""
        return cls.counted(float(hits.sum()), len(hits))

    @classmethod
    def counted(cls, right: float, images: int) -> "Accuracy":
        """Compute the accuracy from the number of correct images among all, one or more."""
        percent = 100 * right / images
        return cls(percent, *wilson_interval(percent, images), images)

    @classmethod
    def balanced(cls, hits: np.ndarray, labels: np.ndarray) -> "Accuracy":
        """Compute the mean over classes, from hits in [0, 1], [N], and int labels, [N].

        Its interval combines the exact ones (Clopper and Pearson's) of the classes: the distances
        of their ends from the classes' accuracies, times 1 / C, are added in quadrature (MOVER; Zou
        and Donner, Statistics in Medicine 2008). A class with few images thus widens it even if all
        are correct; with Wilson's intervals, one hit in five by chance would pass for more. It adds
        nothing above, however, so that end is at least that of the normal interval with Agresti and
        Coull's shares, (hits + 1) / (images + 2).
        """
        means_C, counts_C = _by_class(hits, labels)
        lows_C, highs_C = _exact_intervals(means_C * counts_C, counts_C)
        percents_C = 100 * means_C
        below = math.hypot(*(percents_C - lows_C)) / len(counts_C)
        above = math.hypot(*(highs_C - percents_C)) / len(counts_C)
        shares_C = (means_C * counts_C + 1) / (counts_C + 2)
        error = 100 * float(np.sqrt((shares_C * (1 - shares_C) / counts_C).sum())) / len(counts_C)
        above = max(above, float(ndtri((1 + CONFIDENCE) / 2)) * error)
        percent = float(percents_C.mean())
        return cls(percent, max(percent - below, 0), min(percent + above, 100), len(hits))

    def with_more(self, curve: LearningCurve | None, size: int) -> "Accuracy":
        """Extrapolate to networks trained on `size` images, from the learning curve's last size.

        The gain of a doubling is scaled by the share of a doubling that this is, in logarithms, and
        both uncertainties are added in quadrature. Without a curve, the accuracy is unchanged.
        """
        if curve is None:
            return self
        share = math.log2(size / curve.size)
        percent, spread = self.percent + share * curve.gain, share * curve.half
        low = percent - math.hypot(self.percent - self.low, spread)
        high = percent + math.hypot(self.high - self.percent, spread)
        return Accuracy(min(max(percent, 0), 100), max(low, 0), min(high, 100), self.images)

    def __str__(self) -> str:
        return f"{self.percent:.1f} % (95 %: {self.low:.1f} to {self.high:.1f})"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Accuracy and balanced accuracy on some images, and the score of guessing, in percent.

    `largest_share` is the accuracy of always naming the class `largest`.
    """

    accuracy: Accuracy
    balanced: Accuracy
    largest: str
    largest_share: float
    classes: int  # that have an image

    @classmethod
    def of(cls, hits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> "Measurement":
        """Compute all from hits in [0, 1], [N], and int labels, [N], of one image or more."""
        counts = np.bincount(labels)
        largest = int(counts.argmax())
        return cls(
            Accuracy.of(hits),
            Accuracy.balanced(hits, labels),
            class_names[largest],
            100 * float(counts[largest]) / len(labels),
            int((counts > 0).sum()),
        )

    def reference(self) -> str:
        """Return what to report alongside accuracy."""
        return (
            f"balanced accuracy, the mean over classes: {self.balanced}; always predicting the "
            f"largest class, {self.largest}, would score {self.largest_share:.1f} %"
        )

    def verdict(self, expected: Accuracy | None = None) -> str | None:
        """Return a sentence if nothing better than guessing has been shown, else None.

        That is the case unless the intervals of accuracy and of `expected`, the accuracy for
        another number of training images, lie above the largest class's share.
        """
        lows = [each.low for each in (self.accuracy, expected) if each is not None]
        if min(lows) > self.largest_share:
            return None
        guess = 100 / self.classes
        words = (
            "Nothing better than guessing has been shown: the interval of accuracy does not lie "
            f"above the {self.largest_share:.1f} % that always predicting {self.largest} would "
            "score"
        )
        if self.balanced.low > guess:
            return (
                f"{words}. That of balanced accuracy does lie above the {guess:.1f} % of guessing, "
                "so the network does distinguish classes."
            )
        return f"{words}, nor that of balanced accuracy above the {guess:.1f} % of guessing."
