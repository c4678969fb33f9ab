"""One colour and one marker for each name, throughout a report.

The colours are Okabe and Ito's, safe for colour-blind readers, ordered so that neighbours differ in
lightness too; `page.css` has lighter ones for dark mode.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rtl_jax.lab.report.elements import Chart, Figure, Report, Series

COLORS = ("#0072b2", "#d55e00", "#009e73", "#a8558a", "#b8860b", "#3d9bd1", "#5a5a5a")
# matplotlib's letters: circle, square, triangle, diamond.
MARKERS = ("o", "s", "^", "D")


class Style(NamedTuple):
    """The look of a name: indices into COLORS and MARKERS."""

    color: int
    marker: int


def styles(report: Report) -> Mapping[str, Style]:
    """Assign a style to each `Series.look`, the most frequent first; the first 28 are distinct."""
    counts = Counter(
        series.look
        for section in report.sections
        for figure in section.elements
        if isinstance(figure, Figure)
        for chart in figure.charts
        for series in chart.series
    )
    return {
        look: Style(index % len(COLORS), index % len(MARKERS))
        for index, (look, _) in enumerate(counts.most_common())
    }


def shared(figure: Figure) -> list[Series]:
    """Return the series in a figure's legend: those of its charts except `own`."""
    count = Counter(_key(series) for chart in figure.charts for series in chart.series)
    every = [series for chart in figure.charts for series in chart.series]
    return _once(one for one in every if count[_key(one)] > 1 or len(figure.charts) == 1)


def own(figure: Figure, chart: Chart) -> list[Series]:
    """Return the series in a chart's own legend: those in no other chart of its figure."""
    explained = {_key(series) for series in shared(figure)}
    return _once(series for series in chart.series if _key(series) not in explained)


def _key(series: Series) -> tuple[str, bool]:
    return series.name, series.dashed


def _once(every: Iterable[Series]) -> list[Series]:
    return list({_key(series): series for series in every}.values())
