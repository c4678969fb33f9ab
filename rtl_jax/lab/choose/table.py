"""The ranking of sources."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from rtl_jax.lab.statistics import wilson_interval
from rtl_jax.runtime.paths import short_names

if TYPE_CHECKING:
    from rtl_jax.transferability import Candidate


def ranking_frame(ranked: "Sequence[Candidate]") -> pd.DataFrame:
    """A line for each candidate, with every score; `path` is left out."""
    lines = []
    for one in ranked:
        known = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
        scores = known.pop("scores")
        known.pop("path")
        lines.append(known | dict(scores))
    return pd.DataFrame(lines)


def ranking_text(ranked: "Sequence[Candidate]", images: int) -> str:
    """The ranking in words, the most promising candidate first."""
    names = short_names(list(dict.fromkeys(one.source for one in ranked)))
    by_source = dict(zip(dict.fromkeys(one.source for one in ranked), names, strict=True))
    width = max(8, *(len(name) + 2 for name in names))
    lines = [
        f"{'source':{width}}{'blocks':>6}{'loss, nats':>12}{'behind the first':>20}"
        f"{'accuracy':>10}{'95 % interval':>18}{'nearest mean':>14}"
    ]
    for one in ranked:
        low, high = wilson_interval(one.accuracy, images)
        behind = f"{one.behind:.3f} +- {one.behind_margin:.3f}" if one is not ranked[0] else ""
        lines.append(
            f"{by_source[one.source]:{width}}{one.blocks:6}{one.loss:12.3f}{behind:>20}"
            f"{one.accuracy:9.1f}%{f'{low:.1f} to {high:.1f}':>18}"
            f"{100 * one.scores['nearest_mean']:13.1f}%"
        )
    return "\n".join(lines)


def summarize(rows: pd.DataFrame) -> str:
    """What the ranking above is of."""
    first = rows.iloc[0]
    return (
        f"leave-one-out, on {first.num_images} images of {first.dataset}; every score is in "
        "ranking.csv; docs/choosing.md says how well this predicts fine-tuned accuracy"
    )
