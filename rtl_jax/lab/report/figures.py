"""The paper's figures on transfer, 2, 3, 4, 5, 8, 10 and 11, from whatever was measured.

The paper's robust source is the one with L2 eps=3, and its fine-tunings train three blocks. Without
that source, those whose names end in 'l2' take its place, or else every robust one; without three
blocks, every number of blocks measured. Figures by number of images show the last epoch, those by
blocks or constraint each run's best.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from rtl_jax.lab.report import published
from rtl_jax.lab.report.curves import (
    Curve,
    differences,
    differences_over_epochs,
    over_epochs,
    over_sizes,
)
from rtl_jax.lab.report.elements import Chart, Element, Figure, Point, Series, Text
from rtl_jax.lab.report.runs import EVERY, Finetunings, blocks_name

ROBUST = "L2 eps=3"
CONSTRAINTS = (ROBUST, "Linf eps=4/255", "Linf eps=8/255")
SPEED_SIZES: Sequence[int] = (3200, 800, 12800)  # of Figure 3, and of Figure 10
MARKS = (11, 21)  # the epochs at which the paper compares how fast sources transfer
PAIRED = "Lines are means over seeds, bars 95 % intervals by Student's t; differences are paired."


class _Shown:
    """The sources and numbers of blocks that the figures show."""

    def __init__(self, found: Finetunings) -> None:
        self.found = found
        paper = {known: name for name, known in found.paper_sources.items()}
        scratch = paper.get(published.SCRATCH)
        self.natural = found.reference
        self.sources = [name for name in found.sources if name != scratch]
        self.robust = [name for name in self.sources if name != self.natural]
        named = [name for name in self.robust if name.endswith("l2")]
        self.leading = [paper[ROBUST]] if ROBUST in paper else named or self.robust
        constraints = [paper[name] for name in CONSTRAINTS if name in paper]
        self.constraints = constraints if len(constraints) > 1 else self.robust
        self.some_blocks = [blocks for blocks in found.blocks if blocks != EVERY]
        self.blocks = [3] if 3 in self.some_blocks else self.some_blocks

    def targets(self, sources: Sequence[str], blocks: int) -> list[str]:
        """Return the targets with fine-tunings from one of the sources."""
        known = {c.target for c in self.found.having(blocks=blocks) if c.source in sources}
        return [target for target in self.found.targets if target in known]

    def suffix(self, blocks: int) -> str:
        """Return what titles add if several numbers of blocks are shown."""
        return f", {blocks_name(blocks)}" if len(self.blocks) > 1 else ""


def figures(found: Finetunings) -> list[Element]:
    """Return the figures that can be drawn, and a line that lists those that cannot."""
    shown = _Shown(found)
    elements: list[Element] = []
    missing = []
    for name, needed, make in _FIGURES:
        figure = make(shown)
        charts = [chart for chart in figure.charts if chart.series]
        if charts:
            elements.append(Figure(figure.name, figure.title, charts, figure.note))
        else:
            missing.append(f"{name} (needs {needed})")
    if missing:
        elements.append(Text(f"Not measured here: {'; '.join(missing)}."))
    return elements


def _figure2(shown: _Shown) -> Figure:
    charts: list[Chart] = []
    for blocks in shown.blocks:
        lines = _lines([shown.natural, *shown.leading], blocks)
        if len(lines) > 1:
            charts += _by_target(shown, f"figure2a_{blocks}", lines, blocks)
            for number, line in enumerate(lines[1:], 1):
                chart = differences(shown.found, f"figure2b_{blocks}_{number}", line, lines[0])
                charts.append(_retitled(chart, f"{chart.title}{shown.suffix(blocks)}"))
    title = "Figure 2: the robust and the natural source, by training images"
    note = f"After the last epoch. Dashed: published (Table 7). {PAIRED}"
    return Figure("figure2", title, charts, note)


def _by_target(shown: _Shown, name: str, lines: Sequence[Curve], blocks: int) -> list[Chart]:
    found = shown.found
    charts: list[Chart] = []
    for target in shown.targets([line.source for line in lines], blocks):
        beside = [_published(found, target, line) for line in lines]
        known = [series for series in beside if series.points]
        chart = over_sizes(found, f"{name}_{len(charts) + 1}", target, lines, beside=known)
        charts.append(_retitled(chart, f"{target}{shown.suffix(blocks)}"))
    return charts


def _published(found: Finetunings, target: str, line: Curve) -> Series:
    """Return Table 7's values for a target and a source, without points if it has none."""
    source, paper = found.paper_sources.get(line.source), found.paper_targets.get(target)
    points: list[Point] = []
    if source and paper and line.blocks == 3:
        column = published.table7().loc[paper][source]
        points = [Point(float(size), float(value), number=0) for size, value in column.items()]
    return Series(f"{line.name}, published", points, dashed=True, like=line.name)


def _figure3(shown: _Shown) -> Figure:
    sizes = _speed_sizes(shown)
    return _speed(shown, "figure3", "Figure 3", sizes[:1])


def _figure10(shown: _Shown) -> Figure:
    sizes = _speed_sizes(shown)
    return _speed(shown, "figure10", "Figure 10", sizes[1:])


def _speed_sizes(shown: _Shown) -> list[int]:
    """Return the paper's 3,200, 800 and 12,800; without 3,200, the smallest and largest size."""
    sizes = {cell.num_images for cell in shown.found.last if cell.blocks in shown.blocks}
    if 3200 in sizes:
        return [size for size in SPEED_SIZES if size in sizes]
    return sorted({min(sizes), max(sizes)}) if sizes else []


def _speed(shown: _Shown, name: str, number: str, sizes: Sequence[int]) -> Figure:
    charts: list[Chart] = []
    for blocks in shown.blocks:
        lines = _lines([shown.natural, *shown.leading], blocks)
        for size in sizes if len(lines) > 1 else ():
            suffix = f", {size:,} images{shown.suffix(blocks)}"
            start = f"{name}_{blocks}_{size}"
            made = [
                over_epochs(shown.found, f"{start}_{number}", target, size, lines, MARKS)
                for number, target in enumerate(
                    shown.targets([line.source for line in lines], blocks), 1
                )
            ]
            made += [
                differences_over_epochs(
                    shown.found, f"{start}_difference_{number}", line, lines[0], size, MARKS
                )
                for number, line in enumerate(lines[1:], 1)
            ]
            charts += [_retitled(chart, chart.title + suffix) for chart in made]
    title = f"{number}: how fast the robust and the natural source transfer"
    note = f"Test accuracy during fine-tuning; epochs 11 and 21 are marked. {PAIRED}"
    return Figure(name, title, charts, note)


def _figure4(shown: _Shown) -> Figure:
    charts = _by_blocks(shown, "figure4", shown.leading[:1])
    title = "Figure 4: how many blocks to fine-tune, robust source"
    return Figure("figure4", title, charts, f"After each run's best epoch. {PAIRED}")


def _figure11(shown: _Shown) -> Figure:
    others = [name for name in shown.sources if name not in shown.leading[:1]]
    charts = _by_blocks(shown, "figure11", others)
    title = "Figure 11: how many blocks to fine-tune, other sources"
    return Figure("figure11", title, charts, f"After each run's best epoch. {PAIRED}")


def _by_blocks(shown: _Shown, name: str, sources: Sequence[str]) -> list[Chart]:
    """Chart, for each source, accuracy by number of blocks and the difference of two of these.

    The difference is that of three blocks and one, or else of the most and the fewest.
    """
    found = shown.found
    charts: list[Chart] = []
    for number, source in enumerate(sources, 1):
        blocks = sorted({cell.blocks for cell in found.having(source=source)})
        if len(blocks) < 2:
            continue
        lines = [Curve(blocks_name(each), source, each) for each in blocks]
        known = {cell.target for cell in found.having(source=source)}
        for target in (target for target in found.targets if target in known):
            chart = over_sizes(found, f"{name}a_{number}_{len(charts) + 1}", target, lines, True)
            charts.append(_retitled(chart, f"{target}, {source}"))
        usual = {1, 3} <= {*blocks}
        fewer, more = (blocks.index(1), blocks.index(3)) if usual else (0, -1)
        chart = differences(found, f"{name}b_{number}", lines[more], lines[fewer], True)
        charts.append(_retitled(chart, f"{chart.title}, {source}"))
    return charts


def _figure5(shown: _Shown) -> Figure:
    charts: list[Chart] = []
    found, constraints = shown.found, shown.constraints
    for blocks in shown.blocks if len(constraints) > 1 else ():
        lines = _lines(constraints, blocks)
        for target in shown.targets(constraints, blocks):
            chart = over_sizes(found, f"figure5_{blocks}_{len(charts) + 1}", target, lines, True)
            if len(chart.series) == len(lines):
                charts.append(_retitled(chart, f"{target}{shown.suffix(blocks)}"))
        pairs = [(first, other) for i, first in enumerate(lines) for other in lines[i + 1 :]]
        for number, (one, other) in enumerate(pairs, 1):
            chart = differences(found, f"figure5_{blocks}_difference_{number}", one, other, True)
            charts.append(_retitled(chart, f"{chart.title}{shown.suffix(blocks)}"))
    title = "Figure 5: the constraint that the source was trained under"
    note = "After each run's best epoch; targets that have every one of these sources. "
    return Figure("figure5", title, charts, note + PAIRED)


def _figure8(shown: _Shown) -> Figure:
    charts: list[Chart] = []
    for blocks in shown.blocks:
        lines = _lines([shown.natural, *shown.robust], blocks)
        for number, line in enumerate(lines[1:], 1):
            chart = differences(shown.found, f"figure8_{blocks}_{number}", line, lines[0])
            charts.append(_retitled(chart, f"{chart.title}{shown.suffix(blocks)}"))
    title = "Figure 8: every source against the natural one"
    note = (
        "After the last epoch. The paper has PGD(20), PGD(1) and Gaussian noise here, all within "
        f"L2 eps=3; here are the sources that were compared. {PAIRED}"
    )
    return Figure("figure8", title, charts, note)


def _lines(sources: Iterable[str | None], blocks: int) -> list[Curve]:
    return [Curve(source, source, blocks) for source in sources if source is not None]


def _retitled(chart: Chart, title: str) -> Chart:
    return dataclasses.replace(chart, title=title)


_FIGURES: tuple[tuple[str, str, Callable[[_Shown], Figure]], ...] = (
    ("Figure 2", "a natural and a robust source", _figure2),
    ("Figure 3", "a natural and a robust source, evaluated during fine-tuning", _figure3),
    ("Figure 4", "a robust source and two numbers of blocks", _figure4),
    ("Figure 5", "two robust sources", _figure5),
    ("Figure 8", "a natural and a robust source", _figure8),
    ("Figure 10", "Figure 3's runs on other numbers of images", _figure10),
    ("Figure 11", "other sources and two numbers of blocks", _figure11),
)
