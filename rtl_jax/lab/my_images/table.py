"""The table of the comparison that `my_images` makes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rtl_jax.lab.my_images.accuracy import Accuracy
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.lab.results import last_epochs
from rtl_jax.lab.statistics import mean_interval
from rtl_jax.lab.sweep import table

_SHARE = "largest_share"
_BALANCED = ["balanced_accuracy", "balanced_low", "balanced_high"]


def with_reference(rows: pd.DataFrame, candidates: Sequence[HeldOut]) -> pd.DataFrame:
    """A comparison's rows with what accuracy is judged by, each candidate's the same, in percent.

    `largest_share` is the accuracy of always naming the largest class; `balanced_accuracy` the mean
    over classes, from `balanced_low` to `balanced_high` with 95 % confidence.
    """
    known = {}
    for each in candidates:
        one = Accuracy.balanced(each.hits, each.labels)
        known[each.source, each.blocks] = one.percent, one.low, one.high
    values = [known[key] for key in zip(rows["source"], rows["blocks"], strict=True)]
    labels = candidates[0].labels
    share = 100 * float(np.bincount(labels).max()) / len(labels)
    more = pd.DataFrame(values, index=rows.index, columns=_BALANCED)
    return pd.concat([rows, more], axis=1).assign(**{_SHARE: share})


def summarize(rows: pd.DataFrame) -> str:
    """A line per candidate, and what guessing would score; of rows alone, a sweep's table."""
    if rows.empty or _SHARE not in rows:
        return table.summarize(rows)
    groups = last_epochs(rows).groupby(["source", "blocks"], sort=False)
    names = [str(source) for source, _ in groups.groups]
    width = max(8, *map(len, names))
    lines = [f"{'source':{width}}{'blocks':>8}{'accuracy, %':>18}{'balanced accuracy, %':>26}"]
    for (source, blocks), part in groups:
        mean, half = mean_interval(part["accuracy"])
        balanced, low, high = (float(part[name].iloc[0]) for name in _BALANCED)
        accuracy = f"{mean:.2f}" if np.isnan(half) else f"{mean:.2f} +- {half:.2f}"
        lines.append(
            f"{source:{width}}{blocks:8d}{accuracy:>18}"
            f"{f'{balanced:.2f} ({low:.2f} to {high:.2f})':>26}"
        )
    return "\n".join(
        [
            *lines,
            "held out, with 95 % intervals; balanced is the mean over classes; always naming the "
            f"largest class would score {rows[_SHARE].iloc[0]:.1f} %",
        ]
    )
