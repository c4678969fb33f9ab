"""The task `report`: turns a work directory's rows into a page, figures and tables, without JAX."""

from collections.abc import Callable

import pandas as pd
from etils import epath

from rtl_jax.lab.config import Experiment
from rtl_jax.lab.report.chapters import compose
from rtl_jax.lab.report.drawings import draw_figure
from rtl_jax.lab.report.elements import Figure, Report, Table
from rtl_jax.lab.report.formats import to_csv, to_latex, to_markdown
from rtl_jax.lab.report.page import render
from rtl_jax.lab.report.palette import styles
from rtl_jax.lab.results import read_rows
from rtl_jax.runtime.paths import absolute, complete_or_absent

_FORMATS: dict[str, Callable[[Table], str]] = {
    "csv": to_csv,
    "tex": to_latex,
    "md": to_markdown,
}


def run_report(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Write WORKDIR/report from WORKDIR's rows and its runs' figures; return the rows.

    The experiment's settings are ignored. Raises UserError if there are no rows or some cannot be
    read.
    """
    workdir = absolute(workdir)
    rows = read_rows(workdir)
    directory = workdir / "report"
    write_report(directory, compose(rows, sorted(workdir.glob("runs/*/*.png"))))
    print(f"the report is {directory / 'index.html'}")
    return rows


def write_report(directory: epath.Path, report: Report) -> None:
    """Write figures/NAME.svg and .png, tables/NAME.csv, .tex and .md, and the page, index.html.

    Each file is replaced atomically; the page, which refers to the others, is written last.
    """
    elements = [element for section in report.sections for element in section.elements]
    looks = styles(report)
    for element in elements:
        if isinstance(element, Table):
            for ending, text in _FORMATS.items():
                _write(directory / "tables" / f"{element.name}.{ending}", text(element))
        elif isinstance(element, Figure):
            draw_figure(directory / "figures", element, looks)
    _write(directory / "index.html", render(report))


def _write(path: epath.Path, text: str) -> None:
    with complete_or_absent(path, replace=True) as temporary:
        temporary.write_text(text, encoding="utf8")
