"""The elements of a report: sections of texts, tables, charts and pictures.

Chapters make them from rows; the page, the figures and the tables' files are drawn from them.
They are independent of HTML, LaTeX and matplotlib, and their texts are not yet escaped.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

MISSING = float("nan")

_NAME = re.compile(r"[A-Za-z0-9_-]+")  # of a file


@dataclasses.dataclass(frozen=True)
class TableCell:
    """An entry of a table: its text and, for a number, the value that it is sorted by.

    `best` marks the best of its row or group.
    """

    text: str
    value: float | None = None
    best: bool = False

    @property
    def missing(self) -> bool:
        """Whether there is nothing to show."""
        return self.text == ""

    @property
    def numeric(self) -> bool:
        """Whether there is a number to sort by."""
        return self.value is not None and math.isfinite(self.value)


@dataclasses.dataclass(frozen=True)
class Table:
    """Column titles, and rows with a cell per column.

    `name` is also the file's: letters, digits, hyphens and underscores.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    note: str = ""

    def __post_init__(self) -> None:
        wrong = [len(row) for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"{self.name}: {len(self.columns)} columns, a row of {wrong[0]} cells")


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a series at `x`: a mean over `number` seeds and half its 95 % interval.

    `half` is nan for a single seed, which gives no interval.
    """

    x: float
    mean: float
    half: float = MISSING
    number: int = 1

    @property
    def known(self) -> bool:
        """Whether there is a value to draw."""
        return math.isfinite(self.x) and math.isfinite(self.mean)


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a chart. A name keeps its colour throughout a report.

    `like` names another series whose colour this one takes; it is empty otherwise.
    """

    name: str
    points: Sequence[Point]
    dashed: bool = False  # of published values, beside measured ones
    like: str = ""

    @property
    def look(self) -> str:
        """The name that decides the colour."""
        return self.like or self.name


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines over one horizontal axis; small multiples are one chart each.

    `ticks` are the labelled places on the axis, `labels` their texts if these are not the numbers
    themselves, and `marks` the places of vertical lines.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    logarithmic: bool = False
    ticks: Sequence[float] = ()
    labels: Sequence[str] = ()
    marks: Sequence[float] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Figure:
    """Charts that belong together, side by side, such as one for each target."""

    name: str
    title: str
    charts: Sequence[Chart]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file that a task has drawn."""

    name: str
    title: str
    path: Path
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


Element = Table | Figure | Picture | Text


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page with an entry in its table of contents."""

    title: str
    elements: Sequence[Element]


@dataclasses.dataclass(frozen=True)
class Report:
    """A whole report: its title, what it was made from, and its sections."""

    title: str
    summary: str
    sections: Sequence[Section]

    def __post_init__(self) -> None:
        for kind in (Table, Figure):
            names = [
                element.name
                for section in self.sections
                for element in section.elements
                if isinstance(element, kind)
            ]
            wrong = [name for name in names if names.count(name) > 1 or not _NAME.fullmatch(name)]
            if wrong:
                raise ValueError(f"not the name of one {kind.__name__.lower()} alone: {wrong[0]!r}")
