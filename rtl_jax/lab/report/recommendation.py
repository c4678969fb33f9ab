"""Recommendations for each target: the source, the number of blocks and the settings that a sweep
varies (rates, decays, radii, heads), the gain from more labels, and how certain these are."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from rtl_jax.lab.report import cells, learning_curve
from rtl_jax.lab.report.comparison import Comparison, compare
from rtl_jax.lab.report.curves import ACCURACY, SIZE, size_axis
from rtl_jax.lab.report.elements import Chart, Element, Figure, Series, Table, TableCell, Text
from rtl_jax.lab.report.learning_curve import LearningCurve
from rtl_jax.lab.report.runs import Condition, Finetunings, Setting, blocks_name

NOTE = (
    "The best source, number of blocks and, if a sweep varies them, training settings among those "
    "measured, each compared with the next best while the others stay fixed, by differences paired "
    "over seeds. Significant: the intervals of the differences from all others exclude zero, each "
    "with a confidence of 1 - 0.05 / their number (Bonferroni), so that one of several equal "
    "options is called best in at most one case of twenty. "
)
CURVE = (
    f"A power law, error = a n^-b, through at most the last {learning_curve.SIZES} sizes, extended "
    "to twice the last one. Its 95 % interval reflects the seeds and deviations from a power law."
)


class _Choice(NamedTuple):
    """The best fine-tuning on a target at one size, and its comparisons with the others."""

    cell: Condition
    values: pd.Series
    sources: Comparison | None
    blocks: Comparison | None
    settings: Comparison | None
    setting: Setting

    @property
    def size(self) -> int:
        """The number of training images."""
        return self.cell.num_images


def recommendations(found: Finetunings) -> list[Element]:
    """Return, for every target, advice in words, a table of all sizes and a learning curve."""
    return [
        element
        for number, target in enumerate(_targets(found), 1)
        for element in _recommendation(found, target, number)
    ]


def _targets(found: Finetunings) -> list[str]:
    """Return the targets, regardless of the settings that a sweep varies."""
    return list(dict.fromkeys(found.settings[name].target for name in found.targets))


def _recommendation(found: Finetunings, target: str, number: int) -> list[Element]:
    choices = _choices(found, target)
    if not choices:
        return []
    # A single seed, as for a whole data set, supports no recommendation if other sizes have more.
    known = [choice for choice in choices if len(choice.values) > 1] or choices
    first, last = known[0], known[-1]
    values = {
        choice.size: found.at(last.cell._replace(num_images=choice.size))
        for choice in choices
        if choice.size <= last.size
    }
    curve = learning_curve.fit(values)
    words = [_advice(target, last)]
    if last.sources and found.reference not in (last.sources.best, last.sources.rival):
        words += _helps(last, found.reference)  # otherwise the advice says so already
    if first is not last:
        words += _helps(first, found.reference)
    elements: list[Element] = [
        Text(" ".join([*words, _doubling(curve, values)])),
        _table(target, choices, number),
    ]
    if curve:
        elements.append(_figure(target, last.cell, values, curve, number))
    return elements


def _choices(found: Finetunings, target: str) -> list[_Choice]:
    """Return the best fine-tuning at every size, in increasing order of size."""
    places: dict[int, dict[Condition, pd.Series]] = {}
    for cell in found.having():
        if found.settings[cell.target].target == target:
            places.setdefault(cell.num_images, {})[cell] = found.at(cell)
    return [_choose(places[size], found.settings) for size in sorted(places)]


def _choose(values: Mapping[Condition, pd.Series], settings: Mapping[str, Setting]) -> _Choice:
    best = max(values, key=lambda cell: values[cell].mean())

    def beside(varying: str, name: Callable[[Condition], str]) -> Comparison | None:
        """Compare the best with those that differ from it in this field alone."""
        fixed = [field for field in best._fields if field != varying]
        return compare(
            {
                name(cell): each
                for cell, each in values.items()
                if all(getattr(cell, field) == getattr(best, field) for field in fixed)
            }
        )

    return _Choice(
        best,
        values[best],
        beside("source", lambda cell: cell.source),
        beside("blocks", lambda cell: f"{blocks_name(cell.blocks)} trained"),
        beside("target", lambda cell: str(settings[cell.target])),
        settings[best.target],
    )


def _advice(target: str, choice: _Choice) -> str:
    """Say what to use, and how its source, blocks and setting compare with the next best."""
    cell, seeds = choice.cell, len(choice.values)
    accuracy = f"{cells.mean(choice.values).text} % over {seeds} seed{'s' if seeds > 1 else ''}"
    by = f" with {choice.setting}" if choice.setting.axes else ""
    words = [
        f"{target}, {choice.size:,} images: take {cell.source} and train "
        f"{blocks_name(cell.blocks)}{by} ({accuracy})."
    ]
    compared = [(choice.sources, "source"), (choice.blocks, "number of blocks")]
    if choice.setting.axes:
        compared.append((choice.settings, "setting"))
    for outcome, others in compared:
        if outcome is None:
            words.append(f"No other {others} was measured.")
        else:
            words.append(f"{outcome.sentence(outcome.rival)}.")
    return " ".join(words)


def _helps(choice: _Choice, reference: str | None) -> list[str]:
    """Say whether a source other than the natural one helps."""
    outcome = choice.sources
    place = f"On {choice.size:,} images, {blocks_name(choice.cell.blocks)} trained"
    if outcome is None or reference is None:
        return []
    rival = outcome.rival if outcome.best == reference else reference
    return [f"{place}: {outcome.sentence(rival)}."] if rival in outcome.rivals else []


def _doubling(curve: LearningCurve | None, values: Mapping[int, pd.Series]) -> str:
    if curve is None:
        known = sum(len(each) > 1 for each in values.values())
        return (
            "The gain from more labels cannot be estimated: that takes errors at three sizes with "
            f"two seeds in common, and {known} sizes have two seeds or more."
        )
    words = (
        f"Twice the labels ({2 * curve.size:,} images) would gain {curve.gain:+.1f} ± "
        f"{curve.half:.1f} points, by a curve through {len(curve.points) - 1} sizes"
    )
    return f"{words}." if curve.half < abs(curve.gain) else f"{words}: too uncertain to count on."


def _table(target: str, choices: Sequence[_Choice], number: int) -> Table:
    axes = [name for name, _ in choices[-1].setting.axes]
    columns = ["images", "seeds", "source", "blocks", *axes, "test accuracy, %"]
    columns += ["next source", "source margin", "source significant"]
    columns += ["next blocks", "blocks margin", "blocks significant"]
    if axes:
        columns += ["next settings", "settings margin", "settings significant"]
    rows = [
        [
            cells.count(choice.size),
            cells.seeds([choice.values]),
            cells.text(choice.cell.source),
            cells.text(blocks_name(choice.cell.blocks), choice.cell.blocks),
            *(_value(value) for _, value in choice.setting.axes),
            cells.mean(choice.values),
            *_compared(choice.sources),
            *_compared(choice.blocks),
            *(_compared(choice.settings) if axes else []),
        ]
        for choice in choices
    ]
    title = f"{target}: best settings measured"
    return Table(f"recommendation_{number}", title, columns, rows, NOTE + cells.INTERVALS)


def _value(value: object) -> TableCell:
    """Return a cell with the value of a sweep's axis, empty for None."""
    if value is None:
        return cells.NOTHING
    if isinstance(value, float):
        return cells.text(f"{value:g}", value)
    return cells.text(value)


def _compared(outcome: Comparison | None) -> list[TableCell]:
    if outcome is None:
        return [cells.NOTHING] * 3
    ahead, half, _ = outcome.rivals[outcome.rival]
    sure = cells.text("yes" if outcome.sure else "no")
    return [cells.text(outcome.rival), cells.interval(ahead, half), sure]


def _figure(
    target: str,
    cell: Condition,
    values: Mapping[int, pd.Series],
    curve: LearningCurve,
    number: int,
) -> Figure:
    measured = [cells.point(size, each) for size, each in values.items() if len(each)]
    sizes = sorted({int(point.x) for point in (*measured, *curve.points)})
    chart = Chart(
        f"learning_curve_{number}",
        f"{cell.source}, {blocks_name(cell.blocks)}",
        SIZE,
        ACCURACY,
        [Series("measured", measured), Series("power law", curve.points, dashed=True)],
        **size_axis(sizes),
    )
    title = f"{target}: what more labels bring"
    return Figure(f"learning_curve_{number}", title, [chart], CURVE)
