"""The study's parts on other sources: configs/study/source_epochs.py and source_eps.py.

They compare L2 with natural, by the number in which sources differ.
"""

import dataclasses
import itertools
import json
import math
import re
from pathlib import Path

import pandas as pd

from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Chart, Figure, Series, Table, TableCell
from rtl_jax.lab.report.names import target_name
from rtl_jax.lab.report.runs import blocks_name
from rtl_jax.lab.results import last_epochs, read_rows
from rtl_jax.models.bundled import card

NAMES = {"natural": "natural", "l2": "L2"}  # of the bundled sources, and in tables
RADIUS = 0.5  # L2, of the attack on the sources themselves
CELL = ["dataset", "blocks", "num_images"]
BRIEF = 6  # epochs of the sources that those with another eps are compared with


@dataclasses.dataclass(frozen=True)
class Part:
    """A part whose sources differ in one number, told by the end of their directories' names.

    `name` is that of its column in joined rows, `setting` of pretraining. That of sources that it
    shares with another part is `shared`. `kinds` are the sources that it is varied for: where
    natural is not among them, the shared natural source is what each is compared with.
    """

    name: str
    ends: re.Pattern[str]
    setting: str
    shared: float
    axis: str
    logarithmic: bool
    kinds: tuple[str, ...] = tuple(NAMES)

    def read_sources(self, directory: Path) -> list[pd.DataFrame]:
        """Read the rows of the sources' own training from the part's among the directories."""
        found = sorted(path for path in directory.glob("*") if self.ends.search(path.name))
        return list(map(read_rows, found))


EPOCHS = Part("source_epochs", re.compile(r"(?P<name>[a-z0-9]+)_(?P<number>\d+)$"), "epochs", 24,
              "epochs of the sources", True)  # fmt: skip
EPS = Part("source_eps", re.compile(r"(?P<name>[a-z0-9]+)_eps(?P<number>[\d.]+)$"), "eps", 0.5,
           "eps of the L2 source", False, ("l2",))  # fmt: skip
PARTS = {part.name: part for part in (EPOCHS, EPS)}
_SHARED = re.compile(rf"[/:](?P<name>{'|'.join(NAMES)})(_\d+)?$")  # bundled, or of some epochs


def of_epochs(rows: pd.DataFrame, epochs: int) -> pd.DataFrame:
    """Select the rows of sources of some epochs, and from them, of the part on epochs."""
    finetuned = rows["source"].str.extract(EPOCHS.ends)["number"].astype(float) == epochs
    return rows[finetuned | ((rows["task"] == "pretrain") & (rows["epochs"] == epochs))]


def joined(part: Part, rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Join the last evaluations from a part's sources and from the shared ones in the same cells.

    Adds the column `kind`, natural or l2, and the part's own.
    """
    rows = last_epochs(rows[rows["task"] == "sweep"])
    ends = rows["source"].str.extract(part.ends)
    rows = rows.assign(kind=ends["name"], **{part.name: ends["number"].astype(float)})
    others = last_epochs(others[(others["task"] == "sweep") & others["variant"].isna()])
    others = others.assign(kind=others["source"].str.extract(_SHARED)["name"])
    others = others[others["kind"].isin(NAMES)].merge(rows[CELL].drop_duplicates(), on=CELL)
    repeated = [
        others[~others["kind"].isin(part.kinds)].assign(**{part.name: number})
        for number in rows[part.name].unique()
    ]
    return pd.concat([rows, *repeated, others.assign(**{part.name: part.shared})])


def differences(part: Part, rows: pd.DataFrame) -> pd.DataFrame:
    """L2 minus natural (points), paired by seed: a column for each of the part's numbers."""
    found = rows.pivot(index=[*CELL, "seed", part.name], columns="kind", values="accuracy")
    return (found["l2"] - found["natural"]).unstack(part.name)


def by_number(part: Part, rows: pd.DataFrame) -> Table:
    """Tabulate L2 minus natural by the part's number, and the change from the first to the last."""
    found, lines = differences(part, rows), []
    for (dataset, blocks, size), group in found.groupby(CELL):
        change = group[found.columns[-1]] - group[found.columns[0]]
        lines.append(
            [
                cells.text(target_name(dataset)),
                cells.text(blocks_name(int(blocks))),
                cells.count(int(size)),
                *(cells.mean(group[number].dropna(), signed=True) for number in found.columns),
                cells.mean(change.dropna(), signed=True),
            ]
        )
    heads = ["target", "trained", "images", *(f"{number:g}" for number in found.columns), "change"]
    return Table(f"by_{part.name}", f"L2 - natural by {part.axis}", heads, lines)


def own_accuracy(part: Part, rows: pd.DataFrame, others: pd.DataFrame) -> Table:
    """Tabulate the sources' accuracy on their own images, by the part's number.

    That of bundled ones on validation images is on their cards. On training images it is that of
    the last epoch while it trained, cropped, mirrored and perturbed as they were.
    """
    rows = pd.concat([rows, others])
    rows = rows[(rows["task"] == "pretrain") & (rows["epoch"] == rows["epochs"])]
    rows = rows[(rows["method"] == "pretrain") | (rows["eps"] == RADIUS)]
    kinds = rows["perturbation"].map({"none": "natural", "pgd": "l2"})
    numbers = rows["config"].map(lambda settings: json.loads(settings)["pretraining"][part.setting])
    rows = rows.assign(kind=kinds, number=numbers)[kinds.isin(part.kinds)]
    lines = {}
    for number, group in rows.groupby("number"):
        found = group.set_index(["method", "kind"])["accuracy"]
        places = itertools.product(("pretrain", "pgd"), part.kinds)
        lines[number] = [cells.number(found[place]) for place in places]
    if others["source"].str.startswith("bundled:").any():
        known = list(map(card, part.kinds))
        values = [one[key] for key in ("clean_accuracy", "robust_accuracy") for one in known]
        lines[part.shared] = list(map(cells.number, values))
    fitted = rows[rows["method"] == "pretrain"].set_index(["number", "kind"])["train_accuracy"]
    for number, line in lines.items():
        line += [cells.number(fitted.get((number, kind), math.nan)) for kind in part.kinds]
    names = [NAMES[kind] for kind in part.kinds]
    tests = ("no attack", "PGD(20)", "training images")
    heads = [f"{name}, {test}" for test in tests for name in names]
    order = [[TableCell(f"{number:g}", number), *lines[number]] for number in sorted(lines)]
    return Table(f"own_{part.name}", "The sources themselves", [part.setting, *heads], order)


def figure(part: Part, rows: pd.DataFrame) -> Figure:
    """Plot L2 minus natural over the part's number, a chart per target."""
    found, charts = differences(part, rows), []
    for number, (dataset, group) in enumerate(found.groupby("dataset")):
        series = []
        for blocks, size in itertools.product(
            *(sorted({*group.index.unique(name)}) for name in CELL[1:])
        ):
            cell = group.xs((blocks, size), level=CELL[1:])
            points = [cells.point(value, cell[value].dropna()) for value in found.columns]
            series.append(Series(f"{blocks_name(int(blocks))}, {size:,} images", points))
        charts.append(
            Chart(
                f"{part.name}_{number}",
                target_name(str(dataset)),
                part.axis,
                "L2 - natural, points",
                series,
                logarithmic=part.logarithmic,
                ticks=list(found.columns),
            )
        )
    return Figure(part.name, "The L2 source against the natural one", charts)
