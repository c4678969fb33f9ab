"""Table 7 of the paper, targets and sizes by source, with measured values beside it."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from rtl_jax.lab.report import cells, published
from rtl_jax.lab.report.elements import MISSING, Element, Table, TableCell
from rtl_jax.lab.report.runs import EVERY, NOTHING, Condition, Finetunings

BLOCKS = 3
NOTE = (
    "Test accuracy in percent after the last epoch, three blocks trained, from scratch every "
    "layer; the best source of a row is marked, among the measured and among the published ones. "
    "Published: Utrera et al., ICLR 2021. Difference: measured minus published, in standard errors "
    "of the mean over the seeds measured here; one seed has none. "
)


class _Column(NamedTuple):
    name: str  # of a source measured here
    paper: str  # the paper's name of it


def table(found: Finetunings) -> list[Element]:
    """Return the table with all its 60 rows, or nothing if none of its cells was measured."""
    values = published.table7()
    columns = [
        _Column(name, paper) for paper in values for name in _named(found.paper_sources, paper)
    ]
    places = [
        (name, size)
        for paper in values.index.unique("target")
        for name in _named(found.paper_targets, paper)
        for size in values.loc[paper].index
    ]
    measured = {
        (place.target, place.num_images)
        for place in found.last
        if place.source in found.paper_sources
        and place.target in found.paper_targets
        and place.blocks == _blocks(found.paper_sources[place.source])
    }
    if not measured & set(places):
        return []
    rows = [_row(found, target, size, columns, values) for target, size in places]
    titles = [
        title
        for name, _ in columns
        for title in (name, f"{name}, published", f"{name}, difference")
    ]
    title = "Table 7: test accuracy on the target data sets"
    heads = ["target", "images", "seeds", *titles]
    return [Table("table7", title, heads, rows, NOTE + cells.INTERVALS)]


def difference(values: pd.Series, expected: float) -> float:
    """Return the mean minus an expected value, in standard errors; nan for fewer than two values.

    It is also nan if the values do not vary.
    """
    if len(values) < 2 or (spread := values.std(ddof=1)) == 0:
        return MISSING
    return float((values.mean() - expected) / (spread / np.sqrt(len(values))))


def _named(names: Mapping[str, str], paper: str) -> list[str]:
    """Return the report's names of a source or target of the paper; the paper's if unmeasured."""
    return [name for name, known in names.items() if known == paper] or [paper]


def _blocks(paper: str) -> int:
    return EVERY if paper == published.SCRATCH else BLOCKS


def _row(
    found: Finetunings, target: str, size: int, columns: list[_Column], values: pd.DataFrame
) -> list[TableCell]:
    paper = found.paper_targets.get(target)
    expected = values.loc[(paper or target, size)]
    # Another target may have the name of one of the paper's, such as its cross-validation.
    here = [
        found.at(Condition(target, column.name, _blocks(column.paper), size)) if paper else NOTHING
        for column in columns
    ]
    transferred = [column.paper != published.SCRATCH for column in columns]
    means = [each.mean() for each, source in zip(here, transferred, strict=True) if source]
    best = np.nanmax([-np.inf, *means])
    top = expected.drop(published.SCRATCH).max()

    def entries() -> Iterator[TableCell]:
        for column, accuracy, source in zip(columns, here, transferred, strict=True):
            known = float(expected[column.paper])
            yield cells.mean(accuracy, best=source and accuracy.mean() == best)
            yield cells.number(known, best=source and known == top)
            yield cells.number(difference(accuracy, known), 1, signed=True)

    return [cells.text(target), cells.count(size), cells.seeds(here), *entries()]
