"""Constructors of table cells and chart points from numbers."""

import math
from collections.abc import Sequence

import pandas as pd

from rtl_jax.lab.report.elements import MISSING, Point, TableCell
from rtl_jax.lab.statistics import mean_interval

NOTHING = TableCell("")
INTERVALS = (
    "Means over seeds with 95 % intervals by Student's t; one seed gives none. In cross-validation "
    "the folds count as seeds, each with the mean over its own."
)


def text(words: object, order: float | None = None) -> TableCell:
    """Return a cell of text, sorted by `order` if it is given."""
    return TableCell(str(words), order)


def count(number: int) -> TableCell:
    """Return a cell with an integer, its thousands separated by commas."""
    return TableCell(f"{number:,}", float(number))


def number(value: float, digits: int = 2, signed: bool = False, best: bool = False) -> TableCell:
    """Return a cell with a rounded number, empty for nan and infinity."""
    if not math.isfinite(value):
        return NOTHING
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return TableCell(f"{rounded:{'+' if signed else ''}.{digits}f}", float(value), best)


def mean(
    values: Sequence[float] | pd.Series, signed: bool = False, best: bool = False
) -> TableCell:
    """Return a cell with a mean over seeds and, from two seeds on, half its 95 % interval."""
    if not len(values):
        return NOTHING
    return interval(*mean_interval(values), signed, best)


def interval(centre: float, half: float, signed: bool = False, best: bool = False) -> TableCell:
    """Return a cell with a number and half its interval, which is omitted if it is nan."""
    if not math.isfinite(centre):
        return NOTHING
    shown = f"{round(centre, 2) + 0.0:{'+' if signed else ''}.2f}"  # no minus before a zero
    return TableCell(f"{shown} ± {half:.2f}" if math.isfinite(half) else shown, float(centre), best)


def point(x: float, values: Sequence[float] | pd.Series) -> Point:
    """Return a mean over seeds as a point of a chart, missing if there are no values."""
    if not len(values):
        return Point(x, MISSING, MISSING, 0)
    return Point(x, *mean_interval(values), number=len(values))


def seeds(values: Sequence[Sequence[float] | pd.Series]) -> TableCell:
    """Return the number of seeds behind a row's means: '10', or '5 to 10' where they differ."""
    sizes = sorted({len(each) for each in values if len(each)})
    if not sizes:
        return NOTHING
    return TableCell(str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}", sizes[0])
