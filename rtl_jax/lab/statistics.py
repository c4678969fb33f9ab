"""Confidence intervals and paired differences, for every table and page."""

import json

import pandas as pd

from rtl_jax.runtime.documents import parse_json
from rtl_jax.runtime.intervals import CONFIDENCE, mean_interval, wilson_interval

__all__ = [
    "CONFIDENCE",
    "independent",
    "mean_interval",
    "paired_difference",
    "sizes",
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


def sizes(rows: pd.DataFrame) -> pd.Series:
    """Return the numbers of training images, the same for all folds of a cross-validation.

    Without `target.num_images` a run trains on all images outside its fold, and folds may differ by
    an image: they are one size, the smallest, and not a mean over some folds for each size.
    """
    found, folds = rows["num_images"], rows["fold"].notna()
    if not folds.any():
        return found
    configs = rows["config"].where(folds)
    division = configs.map({config: _division(config) for config in configs.dropna().unique()})
    smallest = found.groupby(division).transform("min")
    return found.where(division.isna(), smallest).astype(found.dtype)


def _division(config: str) -> str | None:
    """Return the target without its fold, as JSON, if a run's settings take whole folds."""
    target = (parse_json(config) if config else {}).get("target", {})
    if target.get("num_images", 0) is not None:
        return None
    return json.dumps({**target, "fold": None}, sort_keys=True)


def paired_difference(one: pd.Series, other: pd.Series) -> tuple[float, float]:
    """Return `mean_interval` of other - one over the seeds (the index) that both have."""
    difference = (other - one).dropna()
    return mean_interval(difference) if len(difference) else (float("nan"), float("nan"))
