"""The table of the comparison in `my_images`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rtl_jax.lab.my_images.accuracy import Accuracy
from rtl_jax.lab.my_images.held_out import Candidate, HeldOut, candidates_of
from rtl_jax.lab.statistics import independent, mean_interval
from rtl_jax.lab.sweep import table

_SHARE = "largest_share"
_BALANCED = ["balanced_accuracy", "balanced_low", "balanced_high"]


def with_reference(rows: pd.DataFrame, candidates: Sequence[HeldOut]) -> pd.DataFrame:
    """Add each candidate's balanced accuracy, and that of guessing, to a comparison's rows.

    In percent, `largest_share` is the accuracy of always predicting the largest class, and
    `balanced_accuracy` the mean over classes, from `balanced_low` to `balanced_high` with 95 %
    confidence.
    """
    known = {}
    for each in candidates:
        one = Accuracy.balanced(each.hits, each.labels)
        known[each.candidate] = one.percent, one.low, one.high
    values = [known[candidate] for candidate in candidates_of(rows)]
    labels = candidates[0].labels
    share = 100 * float(np.bincount(labels).max()) / len(labels)
    more = pd.DataFrame(values, index=rows.index, columns=_BALANCED)
    return pd.concat([rows, more], axis=1).assign(**{_SHARE: share})


def summarize(rows: pd.DataFrame) -> str:
    """Tabulate the best candidate of each source, number of blocks and head.

    The score of guessing is stated below. Rows without `with_reference` have a sweep's table.
    """
    if rows.empty:
        return "nothing was compared: this was a dry run"
    if _SHARE not in rows:
        return table.summarize(rows)
    rows = rows[rows["method"] == "transfer"]
    candidates = pd.Series(candidates_of(rows), index=rows.index)
    best: dict[tuple, tuple[Candidate, pd.DataFrame]] = {}
    for candidate in dict.fromkeys(candidates):
        part = rows[candidates == candidate]
        kind = candidate[:3]
        balanced = _BALANCED[0]
        if kind not in best or part[balanced].iloc[0] > best[kind][1][balanced].iloc[0]:
            best[kind] = candidate, part
    names = [candidate.source for candidate, _ in best.values()]
    trained = [candidate.training for candidate, _ in best.values()]
    width, wide = max(8, *map(len, names)), max(8, *map(len, trained))
    lines = [
        f"{'source':{width}}{'blocks':>8}  {'training':{wide}}{'accuracy, %':>18}"
        f"{'balanced accuracy, %':>26}"
    ]
    for (candidate, part), words in zip(best.values(), trained, strict=True):
        mean, half = mean_interval(independent(part))
        percent, low, high = (float(part[name].iloc[0]) for name in _BALANCED)
        accuracy = f"{mean:.2f}" if np.isnan(half) else f"{mean:.2f} +- {half:.2f}"
        lines.append(
            f"{candidate.source:{width}}{candidate.blocks:8d}  {words:{wide}}{accuracy:>18}"
            f"{f'{percent:.2f} ({low:.2f} to {high:.2f})':>26}"
        )
    return "\n".join(
        [
            *lines,
            f"held out, with 95 % intervals, each line the best of its rates and epochs "
            f"({candidates.nunique()} candidates in all); balanced is the mean over classes; "
            f"always predicting the largest class would score {rows[_SHARE].iloc[0]:.1f} %",
        ]
    )
