"""Confidence intervals and paired differences, for every table and page."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # scipy.stats takes most of a second to import

CONFIDENCE = 0.95


def mean_interval(
    values: Sequence[float] | pd.Series | np.ndarray, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the mean and half its 95 % Student's t interval; nan for one value."""
    numbers = np.asarray(values, float)
    if len(numbers) < 2:
        return float(numbers.mean()), float("nan")
    error = numbers.std(ddof=1) / np.sqrt(len(numbers))
    return float(numbers.mean()), float(stdtrit(len(numbers) - 1, (1 + confidence) / 2) * error)


def paired_difference(one: pd.Series, other: pd.Series) -> tuple[float, float]:
    """`mean_interval` of other - one over the seeds, the index, that both have."""
    difference = (other - one).dropna()
    return mean_interval(difference) if len(difference) else (float("nan"), float("nan"))


def wilson_interval(accuracy: float, number: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval (low, high), in percent, of an accuracy in percent."""
    # Imported here, for it takes half a second.
    from scipy.stats import binomtest

    ends = binomtest(round(accuracy / 100 * number), number).proportion_ci(method="wilson")
    return 100 * float(ends.low), 100 * float(ends.high)
