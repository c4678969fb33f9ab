"""The chapters of a report."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rtl_jax.lab.report import (
    accuracy,
    corruptions,
    figures,
    influence,
    literature,
    networks,
    robustness,
    table7,
)
from rtl_jax.lab.report.elements import Element, Picture, Report, Section, Text
from rtl_jax.lab.report.recommendation import recommendations
from rtl_jax.lab.report.runs import Finetunings, finetunings
from rtl_jax.lab.results import PIXEL_BASELINES

PICTURES = 40  # more would make the page too large for a browser


def compose(rows: pd.DataFrame, pictures: Sequence[Path] = ()) -> Report:
    """Compose the report of a work directory's rows (`results.read_rows`) and PNG pictures.

    Chapters without rows are omitted; the paper's Tables 1, 2 and 5 are always included.
    """
    found = finetunings(rows)
    pixels = {name: finetunings(rows, method) for method, name in PIXEL_BASELINES.items()}
    chapters: list[tuple[str, list[Element]]] = [
        ("Recommendation", recommendations(found)),
        ("The paper's Table 7", table7.table(found)),
        ("The paper's figures", figures.figures(found) if found.last else []),
        ("Accuracy", accuracy.tables(found, pixels)),
        ("Robustness", robustness.curves(rows)),
        ("Corruptions", corruptions.tables(rows)),
        ("Influence", influence.tables(rows)),
        ("Networks", networks.tables(rows)),
        ("Pictures", _pictures(pictures)),
        ("The paper's other tables", literature.tables(rows)),
    ]
    sections = [Section(title, elements) for title, elements in chapters if elements]
    return Report("Transfer from robust networks", _summary(rows, found), sections)


def _summary(rows: pd.DataFrame, found: Finetunings) -> str:
    """Say what the report was made from."""
    words = [
        f"Rows: {len(rows):,}, of runs: {rows['run'].nunique():,}. Fine-tunings: {found.number:,}; "
        f"sources: {len(found.sources)}; targets: {len(found.targets)}.",
        *found.notes,
    ]
    seeds = [len(values) for values in found.last.values()]
    if seeds and max(seeds) == 1:
        words.append("One seed each: there are no intervals, and no comparison is conclusive.")
    if not found.last:
        words.append("There is no finished fine-tuning, so nothing can be recommended.")
    return " ".join(words)


def _pictures(paths: Sequence[Path]) -> list[Element]:
    shown: list[Element] = [
        Picture(f"picture_{number}", f"{path.parent.name}: {path.stem}", path)
        for number, path in enumerate(paths[:PICTURES], 1)
    ]
    if len(paths) > PICTURES:
        shown.append(Text(f"{len(paths) - PICTURES} more are in the work directory."))
    return shown
