"""Hand-made reports, with names that every format must escape."""

from pathlib import Path

from PIL import Image

from rtl_jax.lab.report.elements import (
    MISSING,
    Chart,
    Figure,
    Picture,
    Point,
    Report,
    Section,
    Series,
    Table,
    TableCell,
    Text,
)

DASH = "\N{EN DASH}"  # where something is missing

# Of HTML, SVG, LaTeX, Markdown, CSV, matplotlib's formulas and legends.
NASTY = [
    "<script>alert(1)</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "a&b\"'",
    "</title></style></svg><b>bold</b>",
    "50_000 % of $x^2$ ~ #1 {{ 7 * 7 }} {% if %}",
    r"C:\runs\natural | `code` *bold* [link](http://x.y)",
    "_begins with an underscore",
    "two\nlines\tand a tab",
    "-2+3+cmd|' /C calc'!A0",
    "$\\frac{broken$",
]


def table(name: str = "numbers") -> Table:
    """Make a table of unordered numbers with a text and two missing values."""
    rows = [
        [TableCell("b"), TableCell("9.00 ± 1.00", 9.0)],
        [TableCell("a"), TableCell("")],
        [TableCell("c"), TableCell("100.00 ± 2.00", 100.0, best=True)],
        [TableCell("d"), TableCell("nan", MISSING)],
        [TableCell(""), TableCell("-5.00", -5.0)],
    ]
    return Table(name, "Numbers", ["name", "accuracy"], rows, "A note.")


def chart(names: list[str], title: str = "Curve") -> Chart:
    """Make a chart with a rising line for each name, with a gap, on a logarithmic axis."""
    series = [
        Series(name, [
            Point(100, 10.0 + index, 2.0, 5),
            Point(200, MISSING),
            Point(400, 20.0 + index, 1.0, 5),
            Point(800, 40.0 + index),
        ])
        for index, name in enumerate(names)
    ]  # fmt: skip
    return Chart("curve", title, "images", "accuracy, %", series, logarithmic=True, marks=[200])


def nasty_report(directory: Path) -> Report:
    """Make a report in which every text is one of NASTY."""
    Image.new("RGB", (3, 2), "red").save(directory / "picture.png")
    cells = [
        [TableCell(text, float(index)), TableCell(text, best=True)]
        for index, text in enumerate(NASTY)
    ]
    return Report(
        NASTY[0],
        NASTY[1],
        [
            Section(NASTY[2], [Text(text) for text in NASTY]),
            Section(NASTY[3], [Table("nasty", NASTY[4], NASTY[:2], cells, NASTY[5]), table()]),
            Section("Charts", [
                Figure("nasty", NASTY[0], [chart(NASTY, NASTY[4]), chart([], "Empty")], NASTY[1]),
                Figure("plain", "Plain", [chart(["natural", "robust"])]),
            ]),
            Section("Pictures", [Picture("p", NASTY[1], directory / "picture.png", NASTY[0])]),
        ],
    )  # fmt: skip
