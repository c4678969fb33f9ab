"""The best of several fine-tunings on one target and size, and its significance."""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from rtl_jax.lab.statistics import CONFIDENCE, mean_interval


class Difference(NamedTuple):
    """The lead of the best over a rival, in percentage points, and half its interval.

    Both are nan without a common seed; with one, only `half` is.
    """

    ahead: float
    half: float
    seeds: int

    @property
    def sure(self) -> bool:
        """Whether the interval excludes zero; an unknown interval does not."""
        return self.ahead - self.half > 0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The best option and its differences from the others, paired by seed, the closest first."""

    best: str
    rivals: Mapping[str, Difference]

    @property
    def rival(self) -> str:
        """The rival with the closest mean."""
        return next(iter(self.rivals))

    @property
    def sure(self) -> bool:
        """Whether the best beats every rival."""
        return all(difference.sure for difference in self.rivals.values())

    def sentence(self, rival: str) -> str:
        """Describe the outcome against a rival in words."""
        ahead, half, seeds = self.rivals[rival]
        if seeds < 2:
            return f"{self.best} against {rival}: inconclusive, with {seeds or 'no'} seed in common"
        if ahead < 0:  # the best has other seeds besides, which raise its mean
            by = f"by {-ahead:.1f} ± {half:.1f} points on the {seeds} seeds in common"
            return f"{self.best} has a higher mean than {rival}, which leads {by} (inconclusive)"
        by = f"by {ahead:.1f} ± {half:.1f} points, {seeds} seeds"
        if self.rivals[rival].sure:
            return f"{self.best} beats {rival} {by} (significant)"
        return f"{self.best} leads {rival} {by} (inconclusive)"


def compare(options: Mapping[str, pd.Series]) -> Comparison | None:
    """Compare accuracies by seed; the best has the highest mean. None for fewer than two options.

    The best was chosen by its result, so each of its m differences has an interval of confidence
    1 - 0.05 / m (Bonferroni). Of equal options, one beats all others in at most 5 % of cases; all
    intervals together hold less often than in 95 %, as the choice is among every pair.
    """
    means = {name: float(values.mean()) for name, values in options.items() if len(values)}
    if len(means) < 2:
        return None
    best, *others = sorted(means, key=lambda name: -means[name])
    confidence = 1 - (1 - CONFIDENCE) / len(others)
    rivals = {}
    for name in others:
        paired = (options[best] - options[name]).dropna()
        interval = mean_interval(paired, confidence) if len(paired) else (math.nan, math.nan)
        rivals[name] = Difference(*interval, len(paired))
    return Comparison(best, rivals)
