"""Charts as the shapes that `chart.svg` draws, with the values shown on hovering.

matplotlib, which draws the same figures for papers (`drawings`), writes no SVG that follows the
page's colours and shows values on hovering, and a JavaScript chart library would be larger than the
page.

All lengths are in the units of the drawing, which is WIDTH x HEIGHT and scales with its column.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rtl_jax.lab.report.axes import (
    Axis,
    apart,
    horizontal_places,
    horizontal_range,
    horizontal_ticks,
    number_text,
    reach,
    vertical_ticks,
)
from rtl_jax.lab.report.elements import Chart, Point, Series
from rtl_jax.lab.report.palette import MARKERS, Style

WIDTH, HEIGHT = 420, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 412, 28, 192
_CHARACTER = 6.9  # approximate width of a label's character
_DODGE = 2.5  # offset between series at the same place, to keep their intervals distinguishable
_CAP = 2.5  # half the width of an interval's ends

# SVG paths of markers, of radius about 3, relative to a point.
_SHAPES = {
    "o": "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z",
    "s": "m-2.7 -2.7h5.4v5.4h-5.4z",
    "^": "m0 -3.5l3.4 6h-6.8z",
    "D": "m0 -3.8l3.6 3.8l-3.6 3.8l-3.6 -3.8z",
}


class Tick(NamedTuple):
    """A place on an axis and its label, empty if there is no room for it."""

    place: float
    text: str


class Line(NamedTuple):
    """A series: SVG paths of its line, intervals and markers."""

    color: int
    dashed: bool
    line: str
    intervals: str
    markers: str


class Value(NamedTuple):
    """A series at one place: its colour's index, its name and its value as text."""

    color: int
    name: str
    text: str


class Band(NamedTuple):
    """The strip around a place on the horizontal axis, and the values there."""

    left: float
    width: float
    place: float
    title: str
    values: Sequence[Value]


class Drawing(NamedTuple):
    """All the shapes of a chart."""

    across: Sequence[Tick]
    up: Sequence[Tick]
    marks: Sequence[float]
    lines: Sequence[Line]
    bands: Sequence[Band]


class Key(NamedTuple):
    """An entry of a legend."""

    name: str
    color: int
    dashed: bool
    marker: str


def draw(chart: Chart, looks: Mapping[str, Style]) -> Drawing:
    """Return the shapes of a chart; `looks` are the styles by `Series.look`."""
    low, high = horizontal_range(chart)
    across = Axis(low, high, LEFT + 14, RIGHT - 14, chart.logarithmic)
    heights = vertical_ticks(chart)
    up = Axis(heights[0], heights[-1], BOTTOM, TOP)
    return Drawing(
        _across_ticks(chart, across),
        [Tick(up.place(value), number_text(value)) for value in heights],
        [across.place(value) for value in chart.marks],
        [
            _line(series, looks[series.look], across, up, shift)
            for series, shift in zip(chart.series, _shifts(len(chart.series)), strict=True)
        ],
        _bands(chart, looks, across),
    )


def legend(every: Iterable[Series], looks: Mapping[str, Style]) -> list[Key]:
    """Return the legend entries of these series."""
    keys = []
    for series in every:
        style = looks[series.look]
        marker = f"M15 6{_SHAPES[MARKERS[style.marker]]}"
        keys.append(Key(series.name, style.color, series.dashed, marker))
    return keys


def value_text(point: Point) -> str:
    """Format a mean, its interval and, if measured, the number of seeds: 51.72 ± 7.61 (n = 5)."""
    digits = 2 if abs(point.mean) >= 1 or abs(reach(point.half)) >= 1 else 4
    interval = f" ± {point.half:.{digits}f}" if math.isfinite(point.half) else ""
    seeds = f" (n = {point.number})" if point.number else ""
    return f"{point.mean:.{digits}f}{interval}{seeds}"


def _shifts(number: int) -> list[float]:
    return [(index - (number - 1) / 2) * _DODGE for index in range(number)]


def _across_ticks(chart: Chart, axis: Axis) -> list[Tick]:
    ticks = sorted((axis.place(value), text) for value, text in horizontal_ticks(chart))
    shown = apart([place for place, _ in ticks], [_CHARACTER * len(text) for _, text in ticks])
    return [
        Tick(place, text if room else "") for (place, text), room in zip(ticks, shown, strict=True)
    ]


def _line(series: Series, style: Style, across: Axis, up: Axis, shift: float) -> Line:
    pieces, intervals, markers, command = [], [], [], "M"
    for point in series.points:
        if not point.known:
            command = "M"  # a gap where a value is missing
            continue
        x, y = across.place(point.x) + shift, up.place(point.mean)
        pieces.append(f"{command}{x:.1f} {y:.1f}")
        markers.append(f"M{x:.1f} {y:.1f}{_SHAPES[MARKERS[style.marker]]}")
        command = "L"
        if reach(point.half):
            top, bottom = (up.place(point.mean + sign * point.half) for sign in (1, -1))
            cap = f"M{x - _CAP:.1f} {{:.1f}}h{2 * _CAP:.1f}"
            ends = cap.format(top) + cap.format(bottom)
            intervals.append(f"M{x:.1f} {top:.1f}V{bottom:.1f}{ends}")
    paths = ("".join(parts) for parts in (pieces, intervals, markers))
    return Line(style.color, series.dashed, *paths)


def _bands(chart: Chart, looks: Mapping[str, Style], axis: Axis) -> list[Band]:
    """Return strips that meet halfway between neighbouring places."""
    values = horizontal_places(chart)
    places = [axis.place(value) for value in values]
    middles = [(one + other) / 2 for one, other in itertools.pairwise(places)]
    edges = [LEFT, *middles, RIGHT]
    names = dict(horizontal_ticks(chart))
    return [
        Band(
            edges[index],
            edges[index + 1] - edges[index],
            place,
            f"{chart.x_label}: {names.get(value, number_text(value))}",
            list(_values(chart.series, looks, value)),
        )
        for index, (value, place) in enumerate(zip(values, places, strict=True))
    ]


def _values(every: Iterable[Series], looks: Mapping[str, Style], x: float) -> Iterable[Value]:
    for series in every:
        for point in series.points:
            if point.x == x and point.known:
                yield Value(looks[series.look].color, series.name, value_text(point))
