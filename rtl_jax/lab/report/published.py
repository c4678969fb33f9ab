"""The paper's numbers as data: Tables 1, 2, 5 and 7, and section 6's on influence.

`published/*.csv`, typed from the paper; percent throughout. A number of Tables 1, 2 and 5 says
which rows would measure it: a task on a data set of one of those names from one of the sources.
"""

import functools
from pathlib import Path

import pandas as pd

DIRECTORY = Path(__file__).with_name("published")

# Accuracy of networks as they are, under attack or fine-tuned, one number a line.
SMALL_TABLES = {
    "table1a": "Table 1a: ImageNet networks on Stylized ImageNet (SIN)",
    "table1b": "Table 1b: ImageNet under PGD(3), by what the network was trained on",
    "table2": "Table 2: Caltech101 in low resolution, and low-pass filtered",
    "table5": "Table 5: the sources on ImageNet",
}

SCRATCH = "from scratch"  # Table 7's last column, a network that did not come from a source


def table7() -> pd.DataFrame:
    """Test accuracy at three blocks by (target, num_images), in the paper's order of rows.

    A column for each source, the last one being `SCRATCH`: every layer, from random weights.
    """
    return _read("table7").set_index(["target", "num_images"])


def small_table(name: str) -> pd.DataFrame:
    """A table of `SMALL_TABLES`: row, column, accuracy, and what measures it.

    `task`, `datasets` (last parts of their names), `variants` ("" for the images as they are),
    `source`; `blocks` of a fine-tuning, `norm` and `eps` (for pixels in [0, 1]; 0: no attack) of an
    attack, missing where they do not matter.
    """
    table = _read(name)
    variants = table["variants"].fillna("").map(lambda text: text.split() or [""])
    return table.assign(datasets=table["datasets"].str.split(), variants=variants)


def influence() -> pd.DataFrame:
    """By source: how often the most influential training images share the test image's label.

    top1_match: the most influential one; top5_match: three or more of the top five (section 6).
    """
    return _read("influence").set_index("source")


@functools.cache
def targets() -> dict[str, str]:
    """The paper's names of its six targets by data set, in Table 7's order."""
    table = _read("targets")
    return dict(zip(table["dataset"], table["target"], strict=True))


@functools.cache
def sources() -> dict[str, str]:
    """The paper's names of sources by the names of the checkpoints that are those networks."""
    table = _read("sources")
    return dict(zip(table["checkpoint"], table["source"], strict=True))


@functools.cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(DIRECTORY / f"{name}.csv", dtype={"variants": str, "norm": str})
