"""The paper's numbers as data: Tables 1, 2, 5 and 7, and section 6's on influence.

`published/*.csv` were typed from the paper and are in percent throughout. Each number of Tables 1,
2 and 5 comes with the task, source and data set names of the rows that measure it.
"""

import functools
from pathlib import Path

import pandas as pd

DIRECTORY = Path(__file__).with_name("published")

# Accuracy of networks without fine-tuning, under attack or fine-tuned, one number per line.
SMALL_TABLES = {
    "table1a": "Table 1a: ImageNet networks on Stylized ImageNet (SIN)",
    "table1b": "Table 1b: ImageNet under PGD(3), by what the network was trained on",
    "table2": "Table 2: Caltech101 in low resolution, and low-pass filtered",
    "table5": "Table 5: the sources on ImageNet",
}

SCRATCH = "from scratch"  # Table 7's last column, a network that did not come from a source


def table7() -> pd.DataFrame:
    """Return test accuracy at three blocks by (target, num_images), in the paper's order of rows.

    There is a column per source; the last, `SCRATCH`, trains every layer from random weights.
    """
    return _read("table7").set_index(["target", "num_images"])


def small_table(name: str) -> pd.DataFrame:
    """Return a table of `SMALL_TABLES`: row, column, accuracy, and what measures it.

    The latter are `task`, `datasets` (the last parts of their names), `variants` ("" for unmodified
    images) and `source`, with `blocks` for a fine-tuning, or `norm`, `eps` (for pixels in
    [0, 1]; 0: no attack) and `steps` of PGD for an attack. Those that do not matter are missing.
    """
    table = _read(name)
    variants = table["variants"].fillna("").map(lambda text: text.split() or [""])
    return table.assign(datasets=table["datasets"].str.split(), variants=variants)


def influence() -> pd.DataFrame:
    """Return, by source, how often influential training images share the test image's label.

    `top1_match`: the most influential image does. `top5_match`: at least three of the top five do
    (section 6).
    """
    return _read("influence").set_index("source")


@functools.cache
def targets() -> dict[str, str]:
    """Map data sets to the paper's names of its six targets, in Table 7's order."""
    table = _read("targets")
    return dict(zip(table["dataset"], table["target"], strict=True))


@functools.cache
def sources() -> dict[str, str]:
    """Map the names of published checkpoints to the paper's names of those sources."""
    table = _read("sources")
    return dict(zip(table["checkpoint"], table["source"], strict=True))


@functools.cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(DIRECTORY / f"{name}.csv", dtype={"variants": str, "norm": str})
