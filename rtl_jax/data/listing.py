"""`list:PATH`: a CSV file that names pictures and their classes.

    file,label,split
    cats/a.jpg,cats,train
    /photos/b.png,dogs,test

Paths are from the list's own folder unless they begin at the root. `split` says train or test, and
may be left out: then every picture trains. Classes are the labels in alphabetical order.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from rtl_jax.data.folder import FolderPlan
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import complete_or_absent, printable

COLUMNS = ("file", "label", "split")


def plan_list(path: Path) -> FolderPlan:
    """Which file is which image, in the list's order; no picture is opened.

    Raises UserError for a list that is missing or damaged, lacks a column, or has a line without a
    file, a label or a split.
    """
    rows = _read(path)
    names = sorted({row["label"] for row in rows})
    numbers = {name: label for label, name in enumerate(names)}

    def half(split: str) -> tuple[tuple[Path, int], ...]:
        return tuple(
            (path.parent / row["file"], numbers[row["label"]])
            for row in rows
            if row["split"] == split
        )

    return FolderPlan(path, tuple(names), half("train"), half("test"), None)


def write_list(path: Path, rows: Iterable[tuple[Path, str, str]]) -> None:
    """Write (file, label, split) rows as `plan_list` reads them, an older list replaced."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    with complete_or_absent(path, replace=True) as temporary:
        # Names of files need not be UTF-8: their bytes are written as they are.
        temporary.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"there is no file {path}: give list: the path of a CSV file")
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            heads = reader.fieldnames or ()
            rows = [{"split": "train", **row} for row in reader]
    except (OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from error
    if not rows or not {"file", "label"} <= set(heads):
        raise UserError(
            f"{path}: expected a first line of {','.join(COLUMNS)} and a line for each picture; "
            f"received {len(rows)} pictures under {','.join(heads) or 'nothing'}"
        )
    if strange := [row["label"] for row in rows if printable(row["label"]) != row["label"]]:
        raise UserError(
            f"{path}: the label {printable(strange[0])} is not UTF-8: save the list as UTF-8"
        )
    for number, row in enumerate(rows, start=2):
        good = row.get("file") and row.get("label") and row.get("split") in ("train", "test")
        if not good:
            raise UserError(
                f"{path}, line {number}: expected a file, a label and, if at all, a split of train "
                f"or test under the heads {','.join(COLUMNS)}; received {row}"
            )
    return rows
