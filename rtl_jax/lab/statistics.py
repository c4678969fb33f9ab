"""Intervals and paired differences: every number that a table or a page shows comes from here."""

import pandas as pd

from rtl_jax.runtime.intervals import CONFIDENCE, mean_interval, wilson_interval

__all__ = ["CONFIDENCE", "mean_interval", "paired_difference", "wilson_interval"]


def paired_difference(one: pd.Series, other: pd.Series) -> tuple[float, float]:
    """`mean_interval` of other - one over the seeds, the index, that both have."""
    difference = (other - one).dropna()
    return mean_interval(difference) if len(difference) else (float("nan"), float("nan"))
