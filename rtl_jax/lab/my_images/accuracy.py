"""Accuracy with its interval, and beside it what it takes to judge it where classes differ in size.

N images, C classes. Always naming the largest class scores its share of the images, so accuracy
says nothing until it exceeds that; balanced accuracy, the mean over classes, is 100 / C of every
guess that does not look at the image.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from rtl_jax.lab.report.learning_curve import LearningCurve
from rtl_jax.lab.statistics import CONFIDENCE, wilson_interval


def balanced_mean(hits: np.ndarray, labels: np.ndarray) -> float:
    """The mean over classes of the mean of hits, [N] in [0, 1], of classes that have an image."""
    return float(np.mean(_by_class(hits, labels)[0]))


def _by_class(hits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each class's hits, and its images."""
    counts = np.bincount(labels)
    there = counts > 0
    return np.bincount(labels, weights=hits)[there] / counts[there], counts[there]


def _exact_intervals(right: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's 95 % intervals in percent; hits of several seeds may be fractions."""
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
        """The accuracy of hits in [0, 1], [N], one image or more."""
        return cls.counted(float(hits.sum()), len(hits))

    @classmethod
    def counted(cls, right: float, images: int) -> "Accuracy":
        """From the number of correct images among all, one or more."""
        percent = 100 * right / images
        return cls(percent, *wilson_interval(percent, images), images)

    @classmethod
    def balanced(cls, hits: np.ndarray, labels: np.ndarray) -> "Accuracy":
        """The mean over classes, from hits in [0, 1], [N], and int labels, [N].

        Its interval puts the classes' exact ones (Clopper and Pearson's) together: what lies
        between their ends and the classes' own accuracies, times 1 / C, is added in squares (MOVER;
        Zou and Donner, Statistics in Medicine 2008). So a class of few images widens it even where
        all are right; with Wilson's, one hit in five by chance would pass for more than that.
        """
        means_C, counts_C = _by_class(hits, labels)
        lows_C, highs_C = _exact_intervals(means_C * counts_C, counts_C)
        percents_C = 100 * means_C
        below = math.hypot(*(percents_C - lows_C)) / len(counts_C)
        above = math.hypot(*(highs_C - percents_C)) / len(counts_C)
        percent = float(percents_C.mean())
        return cls(percent, max(percent - below, 0), min(percent + above, 100), len(hits))

    def with_more(self, curve: LearningCurve | None, size: int) -> "Accuracy":
        """The accuracy of networks trained on `size` images, not the learning curve's last size.

        That is a share of a doubling, in logarithms, and brings that share of what a doubling
        would. Both uncertainties are added in squares. Without a curve nothing is known of it.
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
    """Accuracy and balanced accuracy on some images, and what guessing scores there, in percent.

    `largest_share` is of the class `largest`: the accuracy of always naming it.
    """

    accuracy: Accuracy
    balanced: Accuracy
    largest: str
    largest_share: float
    classes: int  # that have an image

    @classmethod
    def of(cls, hits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> "Measurement":
        """From hits in [0, 1], [N], and int labels, [N], of one image or more."""
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
        """What is said beside accuracy."""
        return (
            f"balanced accuracy, the mean over classes: {self.balanced}; always naming the largest "
            f"class, {self.largest}, would score {self.largest_share:.1f} %"
        )

    def verdict(self, expected: Accuracy | None = None) -> str | None:
        """A sentence where nothing better than guessing has been shown; None where it has.

        That is where the interval of accuracy, or of the accuracy `expected` of another number of
        training images, does not lie above the largest class's share.
        """
        lows = [each.low for each in (self.accuracy, expected) if each is not None]
        if min(lows) > self.largest_share:
            return None
        guess = 100 / self.classes
        words = (
            "Nothing better than guessing has been shown: the interval of accuracy does not lie "
            f"above the {self.largest_share:.1f} % that always naming {self.largest} would score"
        )
        if self.balanced.low > guess:
            return (
                f"{words}. Balanced accuracy does lie above the {guess:.1f} % of a guess, so the "
                "network does tell classes apart."
            )
        return f"{words}, and that of balanced accuracy not above the {guess:.1f} % of a guess."
