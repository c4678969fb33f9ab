"""Charts of test accuracy over the number of images and over epochs."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from rtl_jax.lab.report import cells
from rtl_jax.lab.report.elements import Chart, Series
from rtl_jax.lab.report.runs import Condition, Finetunings

SIZE = "training images"
ACCURACY = "test accuracy, %"
DIFFERENCE = "difference in test accuracy, points"
EPOCHS = "epochs of fine-tuning"


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line of a chart: fine-tunings from one source with one number of blocks."""

    name: str
    source: str
    blocks: int

    def at(self, target: str, size: int) -> Condition:
        """Return the cell of a target and a number of images."""
        return Condition(target, self.source, self.blocks, size)


def over_sizes(
    found: Finetunings,
    name: str,
    target: str,
    lines: Sequence[Curve],
    best: bool = False,
    beside: Sequence[Series] = (),
) -> Chart:
    """Chart the accuracy of several lines on one target over the number of images.

    `best` takes each run's best epoch, not its last; `beside` are series not measured here.
    """
    sizes = _sizes(found, [target], lines)
    series = [
        Series(
            line.name, [cells.point(size, found.at(line.at(target, size), best)) for size in sizes]
        )
        for line in lines
    ]
    known, note = _known(series)
    return Chart(name, target, SIZE, ACCURACY, [*known, *beside], **size_axis(sizes), note=note)


def differences(
    found: Finetunings, name: str, one: Curve, other: Curve, best: bool = False
) -> Chart:
    """Chart `one` minus `other` over the number of images, paired by seed, a line per target."""
    series = []
    for target in found.targets:
        points = []
        for size in _sizes(found, [target], [one, other]):
            minuend, subtrahend = (found.at(line.at(target, size), best) for line in (one, other))
            points.append(cells.point(size, (minuend - subtrahend).dropna()))
        series.append(Series(target, points))
    known, note = _known(series)
    axis = size_axis(_sizes(found, found.targets, [one, other]))
    title = f"{one.name} - {other.name}"
    return Chart(name, title, SIZE, DIFFERENCE, known, **axis, note=note)


def over_epochs(
    found: Finetunings,
    name: str,
    target: str,
    size: int,
    lines: Sequence[Curve],
    marks: Sequence[int],
) -> Chart:
    """Chart accuracy during fine-tuning on one target, with the epochs `marks` highlighted."""
    frames = [found.by_epoch(line.at(target, size)) for line in lines]
    series = [
        Series(line.name, [cells.point(epoch, row.dropna()) for epoch, row in frame.iterrows()])
        for line, frame in zip(lines, frames, strict=True)
    ]
    known, note = _known(series)
    return _epoch_chart(name, target, ACCURACY, known, marks, note)


def differences_over_epochs(
    found: Finetunings, name: str, one: Curve, other: Curve, size: int, marks: Sequence[int]
) -> Chart:
    """Chart `one` minus `other` by epoch, paired by seed, a line per target."""
    series = []
    for target in found.targets:
        frames = [found.by_epoch(line.at(target, size)) for line in (one, other)]
        both = frames[0].sub(frames[1]) if all(map(len, frames)) else pd.DataFrame()
        both = both.dropna(how="all")
        points = [cells.point(epoch, row.dropna()) for epoch, row in both.iterrows()]
        series.append(Series(target, points))
    known, note = _known(series)
    return _epoch_chart(name, f"{one.name} - {other.name}", DIFFERENCE, known, marks, note)


def _epoch_chart(
    name: str, title: str, y_label: str, series: Sequence[Series], marks: Sequence[int], note: str
) -> Chart:
    last = max((point.x for line in series for point in line.points), default=0)
    evaluated = {line.name: {point.x for point in line.points} for line in series}
    absent = []
    for mark in (mark for mark in marks if mark <= last):
        lacking = [name for name, epochs in evaluated.items() if mark not in epochs]
        if lacking:
            who = "" if len(lacking) == len(series) else f" for {', '.join(lacking)}"
            absent.append(f"epoch {mark} was not evaluated{who}")
    shown = [mark for mark in marks if mark <= last]
    note = "; ".join(filter(None, [note, *absent]))
    return Chart(name, title, EPOCHS, y_label, series, marks=shown, note=note)


def _known(series: Iterable[Series]) -> tuple[list[Series], str]:
    """Return the series that have a point, and a note that lists the others."""
    every = list(series)
    known = [line for line in every if any(point.known for point in line.points)]
    names = [line.name for line in every if line not in known]
    return known, f"not measured: {', '.join(names)}" if names else ""


def _sizes(found: Finetunings, targets: Sequence[str], lines: Sequence[Curve]) -> list[int]:
    wanted = {(line.source, line.blocks) for line in lines}
    return sorted(
        {
            cell.num_images
            for cell in found.last
            if cell.target in targets and (cell.source, cell.blocks) in wanted
        }
    )


def size_axis(sizes: Sequence[int]) -> dict[str, Any]:
    """Return the settings of a chart's logarithmic axis of numbers of images."""
    return {"logarithmic": True, "ticks": sizes, "labels": [f"{size:,}" for size in sizes]}
