"""The expected gain from twice the labels: a power law fitted to one cell's test errors by size.

The law, error(n) = a n^-b, is a straight line in logarithms. It is fitted to the last few sizes
only, since a power law holds over a limited range at best. Every seed has its own line. The
prediction has two sources of uncertainty, whose 95 % half-widths are added in quadrature: the
seeds, by Student's t over their lines; and the law, by the usual interval of a regression line
through the mean logarithms, whose residuals measure the deviation from a straight line. With three
sizes the latter has one degree of freedom and is wide; a fourth narrows it considerably.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from rtl_jax.lab.report.elements import Point
from rtl_jax.lab.statistics import CONFIDENCE, mean_interval

SIZES = 4  # at most this many of the largest sizes are fitted
LEAST = 3  # a line goes through any two points


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """A fitted curve. `points` are accuracies in percent at its sizes and at twice the last one.

    `gain` is what doubling the last size adds to accuracy and `half` is half its 95 % interval,
    both in percentage points. `exponent` is b.
    """

    points: Sequence[Point]
    gain: float
    half: float
    exponent: float

    @property
    def size(self) -> int:
        """The largest size measured."""
        return int(self.points[-2].x)


def fit(values: Mapping[int, pd.Series]) -> LearningCurve | None:
    """Fit the curve to accuracies in percent, by number of images and then by seed.

    Returns None if fewer than three sizes have two seeds in common, or if there are no errors.
    """
    table = _common(values)
    if table is None or not (table.to_numpy() < 100).any():
        return None
    errors_KN = 100 - table.to_numpy()  # K seeds, N sizes
    # Logarithms need positive errors: zero becomes half the smallest positive one.
    errors_KN = np.maximum(errors_KN, errors_KN[errors_KN > 0].min() / 2)
    x_N, y_KN = np.log(table.columns.to_numpy(float)), np.log(errors_KN)
    sizes = [*map(int, table.columns), 2 * int(table.columns[-1])]
    points = [_predicted(size, x_N, y_KN) for size in sizes]
    gains = 100 - np.exp(_lines(x_N, y_KN, np.log(sizes[-1]))) - table.to_numpy()[:, -1]
    gain, by_seeds = mean_interval(gains)
    half = float(np.hypot(by_seeds, _misfit(x_N, y_KN, np.log(sizes[-1]))))
    return LearningCurve(points, gain, half, float(-_slopes(x_N, y_KN).mean()))


def _common(values: Mapping[int, pd.Series]) -> pd.DataFrame | None:
    """Return accuracies by seed and size for the last sizes that share at least two seeds."""
    sizes = sorted(size for size, each in values.items() if len(each) > 1)
    for number in range(min(SIZES, len(sizes)), LEAST - 1, -1):
        table = pd.DataFrame({size: values[size] for size in sizes[-number:]}).dropna()
        if len(table) > 1:
            return table
    return None


def _slopes(x_N: np.ndarray, y_KN: np.ndarray) -> np.ndarray:
    centred_N = x_N - x_N.mean()
    return (y_KN @ centred_N) / (centred_N @ centred_N)


def _lines(x_N: np.ndarray, y_KN: np.ndarray, at: float) -> np.ndarray:
    """Evaluate each seed's least-squares line at one place."""
    return y_KN.mean(1) + _slopes(x_N, y_KN) * (at - x_N.mean())


def _misfit(x_N: np.ndarray, y_KN: np.ndarray, at: float) -> float:
    """Return half the residual-based interval of the mean line there, in percentage points."""
    mean_1N = y_KN.mean(0, keepdims=True)
    fitted_N = np.array([_lines(x_N, mean_1N, x)[0] for x in x_N])
    freedom = len(x_N) - 2
    deviation = np.sqrt(((mean_1N[0] - fitted_N) ** 2).sum() / freedom)
    spread = ((x_N - x_N.mean()) ** 2).sum()
    leverage = np.sqrt(1 / len(x_N) + (at - x_N.mean()) ** 2 / spread)
    quantile = stdtrit(freedom, (1 + CONFIDENCE) / 2)
    return float(quantile * deviation * leverage * np.exp(_lines(x_N, mean_1N, at)[0]))


def _predicted(size: int, x_N: np.ndarray, y_KN: np.ndarray) -> Point:
    at = float(np.log(size))
    mean, half = mean_interval(100 - np.exp(_lines(x_N, y_KN, at)))
    return Point(size, mean, float(np.hypot(half, _misfit(x_N, y_KN, at))), len(y_KN))
