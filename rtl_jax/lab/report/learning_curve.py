"""The expected gain from twice the labels: a power law fitted to one cell's test errors by size.

error(n) = a n^-b, a straight line in logarithms, through the last sizes: a law holds for a while
at best. Every seed has its own line. Two things make the prediction uncertain, and the half widths
of their 95 % intervals are added in squares: the seeds, by Student's t over the seeds' lines; and
the law, by the textbook interval of a regression line through the mean logarithms, whose residuals
say how crooked the measured curve is. With three sizes the second has one degree of freedom and is
wide: a fourth size says far more.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from rtl_jax.lab.report.elements import Point
from rtl_jax.lab.statistics import CONFIDENCE, mean_interval

SIZES = 4  # how many of the largest are fitted
LEAST = 3  # a line goes through any two points


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """A fitted curve. `points` are accuracies in percent at its sizes and at twice the last one.

    `gain` and `half`: what doubling the last size adds to accuracy, and half its 95 % interval, in
    points of percent. `exponent` is b.
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
    """The curve through accuracies in percent, by number of images and then by seed.

    None where fewer than three sizes have two seeds in common, or where nothing is wrong at all.
    """
    table = _common(values)
    if table is None or not (table.to_numpy() < 100).any():
        return None
    errors_KN = 100 - table.to_numpy()  # K seeds, N sizes
    # A logarithm needs an error: half the smallest there is stands for none.
    errors_KN = np.maximum(errors_KN, errors_KN[errors_KN > 0].min() / 2)
    x_N, y_KN = np.log(table.columns.to_numpy(float)), np.log(errors_KN)
    sizes = [*map(int, table.columns), 2 * int(table.columns[-1])]
    points = [_predicted(size, x_N, y_KN) for size in sizes]
    gains = 100 - np.exp(_lines(x_N, y_KN, np.log(sizes[-1]))) - table.to_numpy()[:, -1]
    gain, by_seeds = mean_interval(gains)
    half = float(np.hypot(by_seeds, _misfit(x_N, y_KN, np.log(sizes[-1]))))
    return LearningCurve(points, gain, half, float(-_slopes(x_N, y_KN).mean()))


def _common(values: Mapping[int, pd.Series]) -> pd.DataFrame | None:
    """Accuracies by seed and size, of the last sizes that two seeds or more have in common."""
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
    """Each seed's least-squares line, at one place."""
    return y_KN.mean(1) + _slopes(x_N, y_KN) * (at - x_N.mean())


def _misfit(x_N: np.ndarray, y_KN: np.ndarray, at: float) -> float:
    """Half the interval of the mean line there, by its residuals, in points of percent."""
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
