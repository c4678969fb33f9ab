"""The ranking of sources, as tables and a figure."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from etils import epath

from rtl_jax.lab.plotting import save, subplots
from rtl_jax.lab.statistics import wilson_interval
from rtl_jax.runtime.paths import short_names

if TYPE_CHECKING:
    from rtl_jax.transferability import Candidate


def ranking_frame(ranked: "Sequence[Candidate]") -> pd.DataFrame:
    """Return a frame with a line per candidate: accuracy in percent, and every score."""
    lines = []
    for one in ranked:
        known = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
        scores = known.pop("scores")
        known.pop("path")
        known.pop("curve")
        lines.append(known | {"accuracy": 100 * one.accuracy} | dict(scores))
    return pd.DataFrame(lines)


def ranking_text(ranked: "Sequence[Candidate]", images: int) -> str:
    """Format the ranking, the most promising candidate first."""
    names = short_names(list(dict.fromkeys(one.source for one in ranked)))
    by_source = dict(zip(dict.fromkeys(one.source for one in ranked), names, strict=True))
    width = max(8, *(len(name) + 2 for name in names))
    lines = [
        f"{'source':{width}}{'blocks':>6}{'loss, nats':>12}{'behind the first':>20}"
        f"{'accuracy':>10}{'95 % interval':>18}{'nearest mean':>14}"
    ]
    for one in ranked:
        percent = 100 * one.accuracy
        low, high = wilson_interval(percent, images)
        behind = f"{one.behind:.3f} +- {one.behind_margin:.3f}" if one is not ranked[0] else ""
        lines.append(
            f"{by_source[one.source]:{width}}{one.blocks:6}{one.loss:12.3f}{behind:>20}"
            f"{percent:9.1f}%{f'{low:.1f} to {high:.1f}':>18}"
            f"{100 * one.scores['nearest_mean']:13.1f}%"
        )
    return "\n".join(lines)


def curves_frame(ranked: "Sequence[Candidate]") -> pd.DataFrame:
    """Return a frame with a line per candidate and subset size, accuracies in percent."""
    frame = pd.DataFrame(
        {"source": one.source, "blocks": one.blocks, **point._asdict()}
        for one in ranked
        for point in one.curve
    )
    frame[["accuracy", "low", "high"]] *= 100
    return frame


def curves_text(curves: pd.DataFrame) -> str:
    """Format accuracy by subset size, the most promising candidate first."""
    sources = list(dict.fromkeys(curves["source"]))
    names = dict(zip(sources, short_names(sources), strict=True))
    width = max(8, *(len(name) + 2 for name in names.values()))
    sizes = sorted(set(curves["num_images"]))
    lines = [f"{'source':{width}}{'blocks':>6}" + "".join(f"{f'{n} images':>24}" for n in sizes)]
    for (source, blocks), group in curves.groupby(["source", "blocks"], sort=False):
        cells = (
            f"{f'{one.accuracy:.1f}% ({one.low:.1f} to {one.high:.1f})':>24}"
            for one in group.itertuples()
        )
        lines.append(f"{names[source]:{width}}{blocks:6}" + "".join(cells))
    return "\n".join([*lines, "leave-one-out accuracy on random subsets, with 95 % intervals"])


def draw_curves(path: epath.Path, curves: pd.DataFrame) -> None:
    """Plot accuracy against the number of images, with a panel per number of blocks."""
    panels = list(curves.groupby("blocks"))
    figure, grid = subplots(4 * len(panels) + 0.4, 3.5, 1, len(panels))
    for axes, (blocks, panel) in zip(grid[0], panels, strict=True):
        for source, line in panel.groupby("source", sort=False):
            (drawn,) = axes.plot(line["num_images"], line["accuracy"], marker="o", label=source)
            axes.fill_between(
                line["num_images"], line["low"], line["high"], alpha=0.15, color=drawn.get_color()
            )
        axes.set_title(f"{blocks} block" + "s" * (blocks != 1))
        axes.set_xlabel("images")
        axes.grid(alpha=0.3)
    grid[0][0].set_ylabel("leave-one-out accuracy, %")
    grid[0][-1].legend(fontsize=7)
    save(figure, path)


def summarize(rows: pd.DataFrame) -> str:
    """Say what the ranking is based on."""
    first = rows.iloc[0]
    return (
        f"leave-one-out, on {first.num_images} images of {first.dataset}; every score is in "
        "ranking.csv; docs/choosing.md says how well this predicts fine-tuned accuracy"
    )
