"""Tables 1, 2 and 5 of the paper, with measured values beside the published ones."""

import numpy as np
import pandas as pd

from rtl_jax.lab.report import cells, published
from rtl_jax.lab.report.elements import Element, Table
from rtl_jax.lab.report.names import paper_source
from rtl_jax.lab.report.runs import latest, settings, whole, with_flips

NOTE = (
    "Published: Utrera et al., ICLR 2021, in percent. Measured: attacks and fine-tunings whose "
    "source is the paper's and whose test images are those of a set called {datasets}; of "
    "fine-tunings, those with the largest number of images, after the last epoch. "
)


def tables(rows: pd.DataFrame) -> list[Element]:
    """Return all of these tables, whether or not anything in them was measured."""
    configs = rows["config"].fillna("")
    others = [one for one in configs.unique() if with_flips(one) or not whole(one)]
    rows = rows[rows["fold"].isna() & ~configs.isin(others)]
    known = {source: paper_source(source) for source in rows["source"].dropna().unique()}
    rows = rows.assign(
        paper_source=rows["source"].map(known).astype(object),
        tested=rows["test_dataset"]
        .fillna(rows["dataset"])
        .str.replace(r".*[/:]", "", regex=True)
        .str.lower(),
        variant=rows["variant"].fillna(""),
    )
    return [_table(rows, name, title) for name, title in published.SMALL_TABLES.items()]


def _table(rows: pd.DataFrame, name: str, title: str) -> Table:
    values = published.small_table(name)
    columns = list(values["column"].unique())
    digits = 1 if (values["accuracy"] == values["accuracy"].round(1)).all() else 2  # as printed
    entries = []
    for label, group in values.groupby("row", sort=False):
        numbers = group.set_index("column")
        entry = [cells.text(label)]
        for column in columns:
            entry.append(cells.mean(_measured(rows, numbers.loc[column])))
            entry.append(cells.number(float(numbers["accuracy"][column]), digits))
        entries.append(entry)
    heads = ["", *(head for column in columns for head in (column, f"{column}, published"))]
    datasets = " or ".join(dict.fromkeys(each for line in values["datasets"] for each in line))
    return Table(name, title, heads, entries, NOTE.format(datasets=datasets) + cells.INTERVALS)


def _measured(rows: pd.DataFrame, wanted: pd.Series) -> pd.Series:
    """Return the measured accuracies, by seed, that match a published number."""
    kinds = {"attack": rows["task"] == "attack", "finetune": rows["method"] == "transfer"}
    chosen = (
        kinds[wanted["task"]]
        & (rows["paper_source"] == wanted["source"])
        & rows["tested"].isin(wanted["datasets"])
        & rows["variant"].isin(wanted["variants"])
        & np.isfinite(rows["accuracy"])
    )
    if wanted["task"] == "attack":
        chosen &= np.isclose(rows["eps"], wanted["eps"], rtol=1e-3)
        # Only attacks on the source itself count, by PGD with as many steps as in the table.
        chosen &= rows["frozen_batch_norm"].isna() & rows["blocks"].isna()
        if wanted["eps"] == 0:
            found = rows[chosen & ~rows["method"].isin(["smoothing", "corruptions"])]
        else:
            chosen &= (rows["method"] == "pgd") & (rows["norm"] == wanted["norm"])
            asked = [_steps(one) == wanted["steps"] for one in rows["config"].fillna("")]
            found = rows[chosen & np.array(asked, bool)]
    else:
        chosen &= (rows["blocks"] == wanted["blocks"]).fillna(False)
        found = rows[chosen & (rows["epoch"] == rows["epochs"]).fillna(False)]
        found = found[found["num_images"] == found["num_images"].max()]
    return latest(found, ["seed"]).set_index("seed")["accuracy"]


def _steps(config: str) -> int | None:
    return settings(config).get("attack", {}).get("steps")
