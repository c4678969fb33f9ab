"""Tables as CSV, LaTeX and Markdown, with each format's special characters escaped."""

import csv
import io
import math
import re
from collections.abc import Iterable

from rtl_jax.lab.report.elements import Table, TableCell

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "ε": r"$\varepsilon$",
    "∞": r"$\infty$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|&~$#])")
# What a spreadsheet takes for a formula, including full-width characters. A signed number with its
# interval is not one.
_FORMULA = re.compile(r"\s*([=@\uff1d\uff20]|[+\uff0b\uff0d-](?![\d.,\s±%()+-]*$))")


def to_csv(table: Table) -> str:
    """Format a table as CSV, with the cells as they are shown.

    A column whose numbers carry other text, such as intervals, is followed by a column of the plain
    numbers. No cell can be read as a formula by a spreadsheet.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    numbered = [_needs_numbers(column) for column in _columns(table)]
    titles = ([title, f"{title}, number"] if more else [title]
              for title, more in zip(table.columns, numbered, strict=True))  # fmt: skip
    writer.writerow(_harmless(title) for pair in titles for title in pair)
    for row in table.rows:
        pairs = ([_harmless(cell.text), _number(cell)] if more else [_harmless(cell.text)]
                 for cell, more in zip(row, numbered, strict=True))  # fmt: skip
        writer.writerow(text for pair in pairs for text in pair)
    return file.getvalue()


def to_latex(table: Table) -> str:
    """Format a table for LaTeX with booktabs: numbers right-aligned, the best in bold."""
    sides = "".join("r" if _numeric(column) else "l" for column in _columns(table))
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        rf"\caption{{{latex(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{sides}}}",
        r"\toprule",
        " & ".join(map(latex, table.columns)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_markdown(table: Table) -> str:
    """Format a titled Markdown table: numbers right-aligned, the best in bold."""
    sides = ("---:" if _numeric(column) else "---" for column in _columns(table))
    lines = [
        f"**{markdown(table.title)}**",
        "",
        _piped(map(markdown, table.columns)),
        _piped(sides),
        *(_piped(map(_markdown_cell, row)) for row in table.rows),
    ]
    note = ["", markdown(table.note)] if table.note else []
    return "\n".join([*lines, *note]) + "\n"


def latex(text: str) -> str:
    """Escape text for LaTeX, on one line."""
    return "".join(_LATEX.get(character, character) for character in printable(text))


def markdown(text: str) -> str:
    """Escape text for Markdown, on one line."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def printable(text: str) -> str:
    """Replace unprintable characters, such as line breaks, by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


def _columns(table: Table) -> list[tuple[TableCell, ...]]:
    return list(zip(*table.rows, strict=True)) or [()] * len(table.columns)


def _numeric(column: Iterable[TableCell]) -> bool:
    return any(cell.numeric for cell in column)


def _needs_numbers(column: Iterable[TableCell]) -> bool:
    """Whether the text of some number in a column has more than the number in it."""
    return any(cell.numeric and not _is_float(cell.text) for cell in column)


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(cell: TableCell) -> str:
    return f"{cell.value:.9g}" if cell.numeric else ""


def _harmless(text: str) -> str:
    """Return text on one line, with an apostrophe before anything that would be a formula."""
    text = printable(text)
    return f"'{text}" if _FORMULA.match(text) else text


def _latex_cell(cell: TableCell) -> str:
    return rf"\textbf{{{latex(cell.text)}}}" if cell.best else latex(cell.text) or "--"


def _markdown_cell(cell: TableCell) -> str:
    return f"**{markdown(cell.text)}**" if cell.best else markdown(cell.text) or "\N{EN DASH}"


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
