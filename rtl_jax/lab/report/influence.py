"""The accuracy of influence functions: matching labels, and wrong labels found."""

import numpy as np
import pandas as pd

from rtl_jax.lab.report import cells, published
from rtl_jax.lab.report.elements import Chart, Element, Figure, Series, Table
from rtl_jax.lab.report.names import names_by_checkpoint, paper_source, target_names
from rtl_jax.lab.report.robustness import trainings
from rtl_jax.lab.report.runs import latest, told_apart
from rtl_jax.lab.statistics import independent, units

NOTE = (
    "Test images, in percent, whose most influential training image has their label, and of which "
    "three or more of the top five have. Published (section 6): CIFAR-10, 3,200 images, 3 blocks. "
)


def tables(rows: pd.DataFrame) -> list[Element]:
    """Return a table of label matches and curves of the wrong labels found."""
    rows = rows[rows["task"] == "influence"]
    if rows.empty:
        return []
    names = names_by_checkpoint(rows)
    rows = rows.assign(
        dataset=target_names(rows),
        network=[names[source] for source in rows["source"]],
    )
    rows = rows.assign(network=rows["network"] + trainings(rows, "dataset"))
    different = told_apart(rows, ["dataset", "network", "method"], ["influence"])
    rows = rows.assign(network=rows["network"] + different)
    place = ["dataset", "network", "method", "seed", "fold", "inspected"]
    matches, found = (
        latest(rows[np.isfinite(rows[column])], place).sort_index()
        for column in ("top1_match", "recall")
    )
    return [*_matches(matches), *_found(found)]


def _matches(rows: pd.DataFrame) -> list[Element]:
    if rows.empty:
        return []
    paper = published.influence()
    lines = []
    for (dataset, network, method), group in rows.groupby(
        ["dataset", "network", "method"], sort=False
    ):
        known = paper_source(group["source"].iloc[0])
        comparable = dataset == "CIFAR-10" and known in paper.index and method == "influence"
        top1, top5 = paper.loc[known] if comparable else (np.nan, np.nan)
        lines.append(
            [
                cells.text(dataset),
                cells.text(network),
                cells.text(method),
                cells.count(units(group).nunique()),
                cells.mean(independent(group, "top1_match")),
                cells.number(top1, 1),
                cells.mean(independent(group, "top5_match")),
                cells.number(top5, 1),
            ]
        )
    columns = ["target", "source", "scores", "seeds", "top-1 match", "top-1 match, published"]
    columns += ["3 of top 5", "3 of top 5, published"]
    title = "Figure 7b: labels of the most influential images"
    return [Table("influence", title, columns, lines, NOTE + cells.INTERVALS)]


def _found(rows: pd.DataFrame) -> list[Element]:
    """Chart the share of flipped labels found against the share of training images inspected."""
    groups = rows.groupby(["dataset", "network"], sort=False)
    charts = [
        Chart(
            f"wrong_labels_{number}",
            f"{dataset}, {network}",
            "training images looked at, %",
            "wrong labels found, %",
            [_curve(str(method), each) for method, each in group.groupby("method", sort=False)],
        )
        for number, ((dataset, network), group) in enumerate(groups, 1)
    ]
    return [Figure("wrong_labels", "Wrong labels found", charts, cells.INTERVALS)] if charts else []


def _curve(method: str, rows: pd.DataFrame) -> Series:
    shares = rows.groupby("inspected")
    points = [cells.point(float(share), independent(own, "recall")) for share, own in shares]
    return Series(method, points)
