"""Figures for papers: the page's small multiples, drawn by matplotlib."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from rtl_jax.lab.plotting import save, subplots
from rtl_jax.lab.report.axes import (
    Axis,
    apart,
    horizontal_range,
    horizontal_ticks,
    number_text,
    reach,
    vertical_ticks,
)
from rtl_jax.lab.report.elements import MISSING, Chart, Figure, Series
from rtl_jax.lab.report.formats import printable
from rtl_jax.lab.report.palette import COLORS, MARKERS, Style, own, shared

_WIDTH = 3.4  # of a chart, in inches


def draw_figure(directory: epath.Path, figure: Figure, looks: Mapping[str, Style]) -> None:
    """Write directory/NAME.svg and NAME.png, replacing older ones."""
    import matplotlib

    number = len(figure.charts)
    columns = number if number < 3 else 2 if number < 5 else 4  # even, for charts in pairs
    lines = -(-number // columns)
    # A name with two dollar signs is not a formula.
    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": figure.name}):
        drawing, grid = subplots(_WIDTH * columns, 2.6 * lines + 0.3, lines, columns)
        handles: dict[str, Any] = {}
        for axes in grid.flat[number:]:
            axes.set_visible(False)
        for axes, chart in zip(grid.flat, figure.charts, strict=False):
            drawn = _draw(axes, chart, looks)
            _explain(axes, drawn, own(figure, chart), 1, loc="best", fontsize=7)
            handles |= drawn
        _explain(drawing, handles, shared(figure), columns, loc="outside upper left", frameon=False)
        for ending in ("svg", "png"):
            save(drawing, directory / f"{figure.name}.{ending}")
            drawing.set_layout_engine("none")  # the first one has laid it out


def _explain(
    where: Any, handles: Mapping[str, Any], every: list[Series], columns: int, **options: Any
) -> None:
    """Add a legend of some series, if any, at most as wide as a row of charts."""
    # A space before each name: matplotlib would leave out those that begin with '_'.
    names = [f" {printable(series.name)}" for series in every]
    fitting = int(_WIDTH * columns / (0.6 + 0.09 * max(map(len, names), default=0)))
    if every:
        drawn = [handles[series.name] for series in every]
        where.legend(drawn, names, ncols=max(1, fitting), **options)


def _draw(axes: Any, chart: Chart, looks: Mapping[str, Style]) -> dict[str, Any]:
    """Draw a chart and return the artist of each series by name."""
    handles = {}
    for series in chart.series:
        points = series.points
        style = looks[series.look]
        handles[series.name] = axes.errorbar(
            [point.x for point in points],
            [point.mean if point.known else MISSING for point in points],
            [reach(point.half) for point in points],
            color=COLORS[style.color],
            marker=MARKERS[style.marker],
            linestyle="--" if series.dashed else "-",
            markersize=4,
            linewidth=1.3,
            elinewidth=0.8,
            capsize=2,
        )
    for place in chart.marks:
        axes.axvline(place, color="grey", linestyle=":", linewidth=1)
    _scale(axes, chart)
    axes.set_title(printable(chart.title), fontsize=10)
    axes.set_xlabel(printable(chart.x_label), fontsize=9)
    axes.set_ylabel(printable(chart.y_label), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    return handles


def _scale(axes: Any, chart: Chart) -> None:
    """Set the scales, limits and ticks that the page uses."""
    from matplotlib.ticker import NullLocator

    if chart.logarithmic:
        axes.set_xscale("log")
    low, high = horizontal_range(chart)
    margin = 0.05
    axes.set_xlim(
        *(low * (low / high) ** margin, high * (high / low) ** margin)
        if chart.logarithmic
        else (low - margin * (high - low), high + margin * (high - low))
    )
    ticks = sorted(horizontal_ticks(chart))
    many = sum(len(text) + 1 for _, text in ticks) > 34
    along = Axis(low, high, 0.0, _WIDTH * 55, chart.logarithmic)  # in points
    widths = [9.0 if many else 5.0 * len(text) for _, text in ticks]
    shown = apart([along.place(place) for place, _ in ticks], widths, gap=1.0)
    axes.set_xticks(
        [place for place, _ in ticks],
        [printable(text) if room else "" for (_, text), room in zip(ticks, shown, strict=True)],
        rotation=45 if many else 0,
        ha="right" if many else "center",
        rotation_mode="anchor" if many else "default",
    )
    axes.xaxis.set_minor_locator(NullLocator())
    heights = vertical_ticks(chart)
    if heights[0] < 0 < heights[-1]:
        axes.axhline(0, color="black", linewidth=0.8)
    axes.set_yticks(heights, [number_text(height) for height in heights])
    axes.set_ylim(heights[0], heights[-1])
