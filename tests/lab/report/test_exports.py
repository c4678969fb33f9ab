"""Exported tables and figures are read back by the programs that use them, safely escaped."""

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from etils import epath
from markdown_it import MarkdownIt
from PIL import Image

from rtl_jax.lab.report.drawings import draw_figure
from rtl_jax.lab.report.elements import Figure, Report, Section, Table, TableCell
from rtl_jax.lab.report.formats import latex, markdown, to_csv, to_latex, to_markdown
from rtl_jax.lab.report.palette import COLORS, styles
from tests.lab.report.samples import DASH, NASTY, chart, table


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


# ---- Tables --------------------------------------------------------------------------------------


def test_csv_has_texts_and_numbers() -> None:
    assert read(to_csv(table())) == [
        ["name", "accuracy", "accuracy, number"],
        ["b", "9.00 ± 1.00", "9"],
        ["a", "", ""],
        ["c", "100.00 ± 2.00", "100"],
        ["d", "nan", ""],
        ["", "-5.00", "-5"],
    ]
    plain = Table("t", "t", ["n"], [[TableCell("1.5", 1.5)], [TableCell("-2", -2.0)]])
    assert read(to_csv(plain)) == [["n"], ["1.5"], ["-2"]]


def test_csv_keeps_every_text() -> None:
    rows = read(to_csv(Table("t", "t", ["a"], [[TableCell(text)] for text in NASTY])))
    lines = [text.replace("\n", " ").replace("\t", " ") for text in NASTY]
    assert [row[0].removeprefix("'") for row in rows[1:]] == lines


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "@SUM(A1)",
        "+cmd|' /C calc'!A0",
        "-2+3+cmd|' /C calc'!A0",
        "\t=1",
        "\r=1",
        "\uff1d1",
        "-x",
    ],
)
def test_csv_disarms_formulas(text: str) -> None:
    shown = [f"'{text.replace(text[0], ' ') if text[0].isspace() else text}"]
    assert read(to_csv(Table("t", text, [text], [[TableCell(text)]]))) == [shown, shown]


@pytest.mark.parametrize(
    "text", ["-2.3 ± 2.8", "+4.4 ± 4.1", "-5", "\N{MINUS SIGN}5", "a=b", "1-2", "-"]
)
def test_csv_leaves_numbers_alone(text: str) -> None:
    assert read(to_csv(Table("t", "t", ["c"], [[TableCell(text)]])))[1] == [text]


def test_latex() -> None:
    assert (
        to_latex(table())
        == r"""% \usepackage{booktabs}
\begin{table}
\caption{Numbers}
\label{tab:numbers}
\begin{tabular}{lr}
\toprule
name & accuracy \\
\midrule
b & 9.00 $\pm$ 1.00 \\
a & -- \\
c & \textbf{100.00 $\pm$ 2.00} \\
d & nan \\
-- & -5.00 \\
\bottomrule
\end{tabular}
\end{table}
"""
    )


def test_latex_has_nothing_special_left() -> None:
    """Except for commands that stand for characters, nothing is left that TeX would interpret."""
    for text in NASTY:
        shown = latex(text)
        rest = re.sub(r"\\text\w+\{\}|\\[{}$&%#_]|\$(\\pm|-)\$", "", shown)
        assert not set(rest) & set("\\{}$&%#_~^<>|\n\t"), shown
    assert latex(r"50_000 % of {x} & \y") == r"50\_000 \% of \{x\} \& \textbackslash{}y"


def test_markdown_is_read_as_the_same_table() -> None:
    """A Markdown parser finds the same cells, and no tags or links besides the table's."""
    rows = [
        [TableCell(text, float(index)), TableCell(text, best=True)]
        for index, text in enumerate(NASTY)
    ]
    nasty = Table("t", NASTY[0], [NASTY[5], NASTY[4]], rows, NASTY[2])
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(to_markdown(nasty))
    inline = [token for token in tokens if token.type == "inline"]
    kinds = {child.type for token in inline for child in token.children or []}
    assert kinds == {"text", "strong_open", "strong_close"} | (kinds & {"text_special"})
    texts = [
        "".join(child.content for child in token.children or [])
        for token in inline
    ]  # fmt: skip
    lines = [text.replace("\n", " ").replace("\t", " ") for text in NASTY]
    body = [text for text in lines for _ in range(2)]
    assert texts == [lines[0], lines[5], lines[4], *body, lines[2]]
    assert "<script" not in reader.render(to_markdown(nasty))


def test_markdown() -> None:
    assert to_markdown(table()).splitlines() == [
        "**Numbers**",
        "",
        "| name | accuracy |",
        "| --- | ---: |",
        "| b | 9.00 ± 1.00 |",
        f"| a | {DASH} |",
        "| c | **100.00 ± 2.00** |",
        "| d | nan |",
        f"| {DASH} | -5.00 |",
        "",
        "A note.",
    ]
    assert markdown("a_b|c") == r"a\_b\|c"


def test_a_table_without_rows() -> None:
    empty = Table("t", "t", ["a", "b"], [])
    assert read(to_csv(empty)) == [["a", "b"]]
    assert r"\begin{tabular}{ll}" in to_latex(empty)
    assert to_markdown(empty).splitlines()[2:] == ["| a | b |", "| --- | --- |"]


# ---- Figures -------------------------------------------------------------------------------------


def draw(directory: Path, figure: Figure) -> tuple[Path, Path]:
    """Draw a figure; return its SVG and PNG."""
    looks = styles(Report("t", "s", [Section("s", [figure])]))
    draw_figure(epath.Path(directory), figure, looks)
    return directory / f"{figure.name}.svg", directory / f"{figure.name}.png"


def test_figures_with_nasty_names(tmp_path: Path) -> None:
    charts = [chart(NASTY, NASTY[9]), chart(NASTY[:2], NASTY[4]), chart([], "Empty")]
    vector, raster = draw(tmp_path, Figure("nasty", "t", [*charts, chart(["a"])]))
    root = ElementTree.parse(vector).getroot()
    assert root.tag.endswith("svg") and not [e for e in root.iter() if e.tag.endswith("script")]
    with Image.open(raster) as image:
        assert image.width == 2 * 510 and image.height > 700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nasty.png", "nasty.svg"]


def test_figures_have_the_pages_colors(tmp_path: Path) -> None:
    vector, raster = draw(tmp_path, Figure("f", "t", [chart(["a", "b"])]))
    assert set(re.findall(r"#[0-9a-f]{6}", vector.read_text())) >= set(COLORS[:2])
    with Image.open(raster) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for color in COLORS[:2]:
        wanted = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
        assert (np.abs(pixels.astype(int) - wanted).max(1) < 8).sum() > 50


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw(tmp_path, Figure("f", "t", [chart(["a"])]))]
    assert [path.read_bytes() for path in draw(tmp_path, Figure("f", "t", [chart(["a"])]))] == first


# ---- Names of files ------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["a", "a"], ["../a"], ["a b"], [""], ["a.b"], ["ä"]])
def test_names_are_those_of_files_and_of_one_table_alone(names: list[str]) -> None:
    with pytest.raises(ValueError, match="not the name of one table alone"):
        Report("t", "s", [Section("s", [table(name)]) for name in names])
