"""The study's part on how long the sources were trained: configs/study/source_epochs.py."""

import itertools

import pandas as pd

from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Chart, Figure, Series, Table
from rtl_jax.lab.report.names import target_name
from rtl_jax.lab.report.runs import blocks_name
from rtl_jax.lab.results import last_epochs
from rtl_jax.models.bundled import card

BUNDLED_EPOCHS = 6
NAMES = ("natural", "l2")
RADIUS = 0.5  # L2, of the attack on the sources themselves


def with_source_epochs(study: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """Join the last evaluations of a part's sources and of the bundled ones in the same cells.

    Adds the columns `name` and `source_epochs`.
    """
    part = last_epochs(part)
    named = part["source"].str.extract(r"(?P<name>\w+)_(?P<source_epochs>\d+)$")
    bundled = last_epochs(study[(study["task"] == "sweep") & study["variant"].isna()])
    bundled = bundled[bundled["source"].isin([f"bundled:{name}" for name in NAMES])]
    keys = ["dataset", "blocks", "num_images"]
    bundled = bundled.merge(part[keys].drop_duplicates(), on=keys)
    return pd.concat(
        [
            part.assign(name=named["name"], source_epochs=named["source_epochs"].astype(int)),
            bundled.assign(
                name=bundled["source"].str.removeprefix("bundled:"), source_epochs=BUNDLED_EPOCHS
            ),
        ]
    )


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """L2 minus natural (points), paired by seed: a column for each number of source epochs."""
    keys = ["dataset", "blocks", "num_images", "seed", "source_epochs"]
    found = rows.pivot(index=keys, columns="name", values="accuracy")
    return (found["l2"] - found["natural"]).unstack("source_epochs")


def by_source_epochs(rows: pd.DataFrame) -> Table:
    """Tabulate L2 minus natural by the number of epochs that the sources were trained for."""
    found, lines = differences(rows), []
    for (dataset, blocks, size), group in found.groupby(["dataset", "blocks", "num_images"]):
        change = group[BUNDLED_EPOCHS] - group[group.columns.min()]
        lines.append(
            [
                cells.text(target_name(dataset)),
                cells.text(blocks_name(int(blocks))),
                cells.count(int(size)),
                *(cells.mean(group[epochs].dropna(), signed=True) for epochs in found.columns),
                cells.mean(change.dropna(), signed=True),
            ]
        )
    heads = ["target", "trained", "images", *map(_epochs, found.columns), "change"]
    return Table("by_source_epochs", "L2 - natural by epochs of the sources", heads, lines)


def own_accuracy(part: pd.DataFrame) -> Table:
    """Tabulate the sources' accuracy on their own validation images, by epochs.

    That of the bundled ones is on their cards.
    """
    part = part[(part["task"] == "pretrain") & (part["epoch"] == part["epochs"])]
    part = part[(part["method"] == "pretrain") | (part["eps"] == RADIUS)]
    lines = []
    for epochs, group in part.groupby("epochs"):
        found = group.set_index(["perturbation", "method"])["accuracy"]
        places = [
            (trained, method) for method in ("pretrain", "pgd") for trained in ("none", "pgd")
        ]
        lines.append([cells.count(int(epochs)), *(cells.number(found[each]) for each in places)])
    cards = [card(name) for name in NAMES]
    values = [one[key] for key in ("clean_accuracy", "robust_accuracy") for one in cards]
    lines.append([cells.count(BUNDLED_EPOCHS), *map(cells.number, values)])
    heads = [f"{name}, {test}" for test in ("no attack", "PGD(20)") for name in ("natural", "L2")]
    return Table("own_accuracy", "The sources themselves", ["epochs", *heads], lines)


def figure(rows: pd.DataFrame) -> Figure:
    """Plot L2 minus natural over the epochs of the sources, a chart per target."""
    found, charts = differences(rows), []
    for number, (dataset, group) in enumerate(found.groupby("dataset")):
        series = []
        for blocks, size in itertools.product(
            sorted({*group.index.unique("blocks")}), sorted({*group.index.unique("num_images")})
        ):
            cell = group.xs((blocks, size), level=("blocks", "num_images"))
            points = [cells.point(epochs, cell[epochs].dropna()) for epochs in found.columns]
            series.append(Series(f"{blocks_name(int(blocks))}, {size:,} images", points))
        charts.append(
            Chart(
                f"source_epochs_{number}",
                target_name(str(dataset)),
                "epochs of the sources",
                "L2 - natural, points",
                series,
                logarithmic=True,
                ticks=list(found.columns),
            )
        )
    return Figure("source_epochs", "The L2 source against the natural one", charts)


def _epochs(number: int) -> str:
    return "1 epoch" if number == 1 else f"{number} epochs"
