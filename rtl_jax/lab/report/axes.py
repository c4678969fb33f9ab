"""Chart axes: the places of values along them, and their labels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rtl_jax.lab.report.elements import Chart

_STEPS = (1, 2, 2.5, 5, 10)


class Axis(NamedTuple):
    """A range of values, mapped to `start` to `end` in the drawing's units."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return the place of a value; one outside the range is clipped to its nearer end."""
        low, high, value = (self._linear(number) for number in (self.low, self.high, value))
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.start + share * (self.end - self.start)

    def _linear(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return about `about` equally spaced round numbers that enclose low to high."""
    if high <= low:
        margin = abs(low) * 0.05 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min(step for step in _STEPS if step * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def number_text(value: float) -> str:
    """Return a number in readable form, such as 12,800 and 0.0314."""
    whole = float(value).is_integer() and abs(value) < 1e9
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def horizontal_ticks(chart: Chart) -> list[tuple[float, str]]:
    """Return the labelled places of a chart and their texts.

    They are the chart's own ticks if it has any, else the places of its points, or round numbers
    if a linear axis has more than six of these.
    """
    if chart.ticks:
        texts = chart.labels or [number_text(tick) for tick in chart.ticks]
        return list(zip(chart.ticks, texts, strict=True))
    places = horizontal_places(chart)
    if chart.logarithmic or len(places) <= 6:
        return [(place, number_text(place)) for place in places]
    inside = [tick for tick in round_ticks(places[0], places[-1]) if tick <= places[-1]]
    return [(tick, number_text(tick)) for tick in inside if tick >= places[0]]


def horizontal_places(chart: Chart) -> list[float]:
    """Return the places where a chart has values, in order."""
    return sorted({point.x for series in chart.series for point in series.points if point.known})


def horizontal_range(chart: Chart) -> tuple[float, float]:
    """Return the range of a chart's points, ticks and marks, widened if it is a single place."""
    values = [*horizontal_places(chart), *chart.ticks, *chart.marks]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low < high:
        return low, high
    return (low / 2, high * 2) if chart.logarithmic else (low - 1, high + 1)


def vertical_ticks(chart: Chart) -> list[float]:
    """Return round numbers around all means and intervals; the first and last are the range.

    Intervals of percentages that pass 0 or 100 % are cut off there unless a mean does, too. Those
    of differences are shown whole, as it matters whether they reach below 0.
    """
    known = [point for series in chart.series for point in series.points if point.known]
    if not known:
        return [0.0, 1.0]
    means = [point.mean for point in known]
    low = min(point.mean - reach(point.half) for point in known)
    high = max(point.mean + reach(point.half) for point in known)
    percentages = "%" in chart.y_label
    if percentages and min(means) >= 0:
        low = max(low, 0.0)
    if percentages and max(means) <= 100:
        high = min(high, 100.0)
    return round_ticks(low, high)


def reach(half: float) -> float:
    """Return half an interval, or 0 if there is none."""
    return half if math.isfinite(half) else 0.0


def apart(places: Sequence[float], widths: Sequence[float], gap: float = 7.0) -> list[bool]:
    """Select the texts, centred on increasing places, that fit with a gap between them.

    The last is always shown, then those that fit from the left.
    """
    shown = [False] * len(places)
    if not places:
        return shown
    shown[-1] = True
    limit, right = places[-1] - widths[-1] / 2 - gap, -math.inf
    for index in range(len(places) - 1):
        left = places[index] - widths[index] / 2
        end = places[index] + widths[index] / 2
        if left >= right and end <= limit:
            shown[index], right = True, end + gap
    return shown
