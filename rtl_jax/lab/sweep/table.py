"""A sweep's table: mean test accuracy over seeds, with intervals, and differences of sources."""

import numpy as np
import pandas as pd

from rtl_jax.lab.results import PIXEL_BASELINES, last_epochs
from rtl_jax.lab.statistics import independent, mean_interval, paired_difference, sizes
from rtl_jax.runtime.paths import short_names

_CELL = ["dataset", "blocks", "num_images"]
# Other settings that a sweep may vary: each has a column if it does vary.
_VARIED = ("learning_rate", "weight_decay", "train_eps", "beta", "head_fit")


def summarize(rows: pd.DataFrame) -> str:
    """Tabulate each source's accuracy after the last epoch and its difference from the first's.

    Differences are paired: the same seed draws the same images for every source.
    """
    rows = rows.assign(num_images=sizes(rows))
    last = last_epochs(rows)
    if last.empty:
        return "no run of this sweep has finished"
    sources = list(dict.fromkeys(last["source"]))
    names = dict(zip(sources, short_names(sources), strict=True))
    titles = [names[source] for source in sources]
    titles += [f"{names[source]} - {names[sources[0]]}" for source in sources[1:]]
    pixels = [method for method in PIXEL_BASELINES if (rows["method"] == method).any()]
    titles += [PIXEL_BASELINES[method] for method in pixels]
    width = max(16, *(len(title) + 2 for title in titles))
    varying = varied(last)
    head = f"{'target':20}{'blocks':>7}{'images':>8}"
    head += "".join(f"{name:>{len(name) + 2}}" for name in varying) + f"{'seeds':>7}"
    lines = [head + "".join(f"{title:>{width}}" for title in titles)]
    for (dataset, blocks, size, *numbers), cell in last.groupby([*_CELL, *varying], dropna=False):
        accuracy = {source: _by_seed(cell, source) for source in sources}
        shown = [mean_interval(values) for values in accuracy.values()]
        first = accuracy[sources[0]]
        shown += [paired_difference(first, accuracy[source]) for source in sources[1:]]
        shown += [mean_interval(_pixels(rows, method, dataset, size)) for method in pixels]
        where = f"{dataset:20}{'every' if pd.isna(blocks) else blocks:>7}{size:8d}"
        where += "".join(
            f"{_text(value):>{len(name) + 2}}" for name, value in zip(varying, numbers, strict=True)
        )
        found = "".join(f"{_shown(*value):>{width}}" for value in shown)
        lines.append(f"{where}{cell['seed'].nunique():7d}{found}")
    unit = "seeds" if last["fold"].isna().all() else "folds, each averaged over its seeds,"
    lines.append(f"test accuracy after the last epoch, %, mean over {unit} and its 95 % interval")
    diverged = int((~np.isfinite(last["train_loss"])).sum())
    return "\n".join([*lines, f"{diverged} runs diverged"] if diverged else lines)


def varied(rows: pd.DataFrame) -> list[str]:
    """Return the columns of settings that differ among fine-tunings, besides those of a cell."""
    return [name for name in _VARIED if name in rows and rows[name].nunique(dropna=False) > 1]


def named(name: str, value: object) -> str:
    """Return a setting with its value, such as 'learning_rate=0.1'."""
    return f"{name}={_text(value)}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else format(value, ".4g")


def _pixels(rows: pd.DataFrame, method: str, dataset: str, size: int) -> pd.Series:
    """Return a raw-pixel baseline's accuracies by seed or fold; they are equal for all sources."""
    same = (rows["method"] == method) & (rows["dataset"] == dataset) & (rows["num_images"] == size)
    return independent(rows[same].drop_duplicates(["seed", "fold"]))


def _by_seed(cell: pd.DataFrame, source: str) -> pd.Series:
    """Return a source's accuracies by seed or fold."""
    return independent(cell[cell["source"] == source].drop_duplicates(["seed", "fold"]))


def _shown(mean: float, half: float) -> str:
    if np.isnan(mean):
        return "-"
    return f"{mean:.2f}" if np.isnan(half) else f"{mean:.2f} +- {half:.2f}"
