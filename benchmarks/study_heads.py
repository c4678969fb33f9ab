"""The study's part on heads alone, which SGD trains or which are solved: configs/study/heads.py."""

from collections.abc import Iterator

import pandas as pd

from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Table, TableCell
from rtl_jax.lab.report.names import target_name

SOURCES = {"natural": "bundled:natural", "L2": "bundled:l2"}
FITS = ("sgd", "ridge", "logistic")
PIXELS = {
    "1-NN on pixels": "nearest_pixels",
    "ridge on pixels": "ridge_pixels",
    "logistic on pixels": "linear_pixels",
}


def accuracy(rows: pd.DataFrame) -> Table:
    """Tabulate accuracy by source and kind of head, and of classifiers on the raw pixels."""
    lines: list[list[TableCell]] = []
    for place, group in _places(rows):
        means = [_of(group, source, fit) for fit in FITS for source in SOURCES.values()]
        # They were fitted for every source and kind of head, to the same pixels.
        pixels = [
            group[group["method"] == method].drop_duplicates("seed")["accuracy"]
            for method in PIXELS.values()
        ]
        lines.append([*place, *map(cells.mean, (*means, *pixels))])
    heads = [f"{name}, {fit}" for fit in FITS for name in SOURCES]
    return Table("heads", "Heads alone", ["target", "images", *heads, *PIXELS], lines)


def advantage(rows: pd.DataFrame) -> Table:
    """Tabulate L2 - natural, paired by seed, by kind of head."""
    lines: list[list[TableCell]] = []
    for place, group in _places(rows):
        pairs = [[_of(group, source, fit) for source in SOURCES.values()] for fit in FITS]
        less = [(robust - natural).dropna() for natural, robust in pairs]
        lines.append([*place, *(cells.mean(each, signed=True) for each in less)])
    return Table("heads_advantage", "L2 - natural by head", ["target", "images", *FITS], lines)


def _places(rows: pd.DataFrame) -> Iterator[tuple[list[TableCell], pd.DataFrame]]:
    last = rows[rows["epoch"] == rows["epochs"]]
    for (dataset, size), group in last.groupby(["dataset", "num_images"]):
        yield [cells.text(target_name(str(dataset))), cells.count(int(size))], group


def _of(group: pd.DataFrame, source: str, fit: str) -> pd.Series:
    """Return a source's accuracies with one kind of head, by seed."""
    kept = (group["method"] == "transfer") & (group["source"] == source)
    return group[kept & (group["head_fit"] == fit)].set_index("seed")["accuracy"]
