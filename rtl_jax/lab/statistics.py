"""Confidence intervals and paired differences, for every table and page."""

import pandas as pd

from rtl_jax.runtime.intervals import CONFIDENCE, mean_interval, wilson_interval

__all__ = ["CONFIDENCE", "mean_interval", "paired_difference", "wilson_interval"]


def paired_difference(one: pd.Series, other: pd.Series) -> tuple[float, float]:
    """Return `mean_interval` of other - one over the seeds (the index) that both have."""
    difference = (other - one).dropna()
    return mean_interval(difference) if len(difference) else (float("nan"), float("nan"))
