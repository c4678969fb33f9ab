"""The networks: sources trained here, and the roughness of their gradients."""

import numpy as np
import pandas as pd

from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Element, Table
from rtl_jax.lab.report.names import names_by_checkpoint, target_names
from rtl_jax.lab.report.runs import latest, told_apart

ROUGHNESS = (
    "Mean total variation per unit of absolute value: of input gradients (gradients), or of the "
    "changes that raise a feature (features). What is independent from pixel to pixel is roughest. "
)


def tables(rows: pd.DataFrame) -> list[Element]:
    """Return a table of trainings and one of roughness, if there are such rows."""
    return [*_trained(rows[rows["task"] == "pretrain"]), *_seen(rows[rows["task"] == "visualize"])]


def _trained(rows: pd.DataFrame) -> list[Element]:
    """Tabulate validation accuracy after the last epoch, clean and under attack."""
    rows = rows[np.isfinite(rows["accuracy"]) & (rows["epoch"] == rows["epochs"]).fillna(False)]
    lines = [
        [
            cells.text(row.run),
            cells.text(row.dataset),
            cells.text(row.architecture),
            cells.count(int(row.epochs)),
            cells.text("nothing" if pd.isna(row.eps) else row.method),
            cells.text("" if pd.isna(row.norm) else row.norm),
            cells.number(float(row.eps), 4),
            cells.number(float(row.accuracy)),
        ]
        for row in rows.itertuples()
    ]
    columns = [
        "run",
        "data set",
        "architecture",
        "epochs",
        "attacked by",
        "norm",
        "eps",
        "top-1, %",
    ]
    title = "Sources trained here: validation accuracy"
    return [Table("trained_sources", title, columns, lines)] if lines else []


def _seen(rows: pd.DataFrame) -> list[Element]:
    rows = rows[np.isfinite(rows["roughness"])]
    if rows.empty:
        return []
    names = names_by_checkpoint(rows)
    rows = rows.assign(target=target_names(rows))
    place = ["source", "target", "method"]
    rows = rows.assign(method=rows["method"] + told_apart(rows, place, ["visualize"]))
    rows = latest(rows, [*place, "seed"]).sort_index()
    lines = [
        [
            cells.text(names[source]),
            cells.text(target),
            cells.text(method),
            cells.mean(values),
        ]
        for (source, target, method), values in rows.groupby(place, sort=False)["roughness"]
    ]
    columns = ["source", "images of", "what", "roughness"]
    return [Table("roughness", "What sources see", columns, lines, ROUGHNESS + cells.INTERVALS)]
