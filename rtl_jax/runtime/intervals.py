"""95 % confidence intervals of means and proportions."""

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtri, stdtrit  # scipy.stats takes most of a second to import

CONFIDENCE = 0.95


def mean_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the mean and the half-width of its interval (Student's t, 95 %); nan for one value."""
    numbers = np.asarray(values, float)
    if len(numbers) < 2:
        return float(numbers.mean()), float("nan")
    error = numbers.std(ddof=1) / np.sqrt(len(numbers))
    return float(numbers.mean()), float(stdtrit(len(numbers) - 1, (1 + confidence) / 2) * error)


def wilson_interval(accuracy: float, number: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval (low, high), in percent, of an accuracy in percent.

    p +- z sqrt(p (1 - p) / n + z^2 / 4 n^2), with p moved to p + z^2 / 2 n, all over 1 + z^2 / n.
    """
    share, square = accuracy / 100, float(ndtri((1 + CONFIDENCE) / 2)) ** 2
    middle = share + square / (2 * number)
    inside = square * (share * (1 - share) / number + square / (4 * number**2))
    half, scale = np.sqrt(max(inside, 0)), 1 + square / number
    low, high = (middle - half) / scale, (middle + half) / scale
    return 100 * float(max(low, 0.0)), 100 * float(min(high, 1.0))
