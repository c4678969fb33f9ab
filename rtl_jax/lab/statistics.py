"""Confidence intervals and paired differences, for every table and page."""

import pandas as pd

from rtl_jax.runtime.intervals import CONFIDENCE, mean_interval, wilson_interval

__all__ = [
    "CONFIDENCE",
    "independent",
    "mean_interval",
    "paired_difference",
    "units",
    "wilson_interval",
]


def units(rows: pd.DataFrame) -> pd.Series:
    """Return what counts as one value in an interval: '20000000', a seed, or 'fold 0'.

    The seeds of a fold share its test images: to count each would narrow the interval without more
    evidence.
    """
    folds = "fold " + rows["fold"].astype("string")
    return folds.fillna(rows["seed"].astype("string"))


def independent(rows: pd.DataFrame, column: str = "accuracy") -> pd.Series:
    """Return a column's values by `units`: a fold's is the mean over its seeds."""
    return rows.groupby(units(rows), sort=False)[column].mean()


def paired_difference(one: pd.Series, other: pd.Series) -> tuple[float, float]:
    """Return `mean_interval` of other - one over the seeds (the index) that both have."""
    difference = (other - one).dropna()
    return mean_interval(difference) if len(difference) else (float("nan"), float("nan"))
