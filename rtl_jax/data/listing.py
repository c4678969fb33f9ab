"""`list:PATH`: a CSV file with pictures and their classes.

    file,label,split
    cats/a.jpg,cats,train
    /photos/b.png,dogs,test

Paths are relative to the list's folder unless absolute. `split` is train or test; without this
column, every picture trains. Classes are the labels in alphabetical order.
"""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from rtl_jax.data.folder import FolderPlan
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import complete_or_absent, printable

COLUMNS = ("file", "label", "split")


def plan_list(path: Path) -> FolderPlan:
    """Plan the images in the list's order, without opening any picture.

    Raises UserError for a list that is missing or damaged, lacks a column, or has a line without a
    file, label or split, a file in both splits or with two labels, or labels that look the same.
    """
    rows = _read(path)
    _check_files(path, rows)
    _check_labels(path, {row["label"] for row in rows})
    names = sorted({row["label"] for row in rows})
    numbers = {name: label for label, name in enumerate(names)}

    def half(split: str) -> tuple[tuple[Path, int], ...]:
        return tuple(
            (path.parent / row["file"], numbers[row["label"]])
            for row in rows
            if row["split"] == split
        )

    train, test = half("train"), half("test")
    return FolderPlan(path, tuple(names), train, test, None, divided=True, is_list=True)


def write_list(path: Path, rows: Iterable[tuple[Path, str, str]]) -> None:
    """Write (file, label, split) rows for `plan_list`, replacing an older list."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    with complete_or_absent(path, replace=True) as temporary:
        # File names need not be UTF-8; their bytes are written unchanged.
        temporary.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


def _check_files(path: Path, rows: list[dict[str, str]]) -> None:
    """Raise UserError for a file in both splits or with two labels."""
    seen: dict[str, tuple[int, dict[str, str]]] = {}
    for number, row in enumerate(rows, start=2):
        file = os.path.normpath(path.parent / row["file"])
        first, before = seen.setdefault(file, (number, row))
        for column in ("split", "label"):
            if row[column] != before[column]:
                raise UserError(
                    f"{path}, lines {first} and {number}: {row['file']} has the {column} "
                    f"{before[column]} and {row[column]}: expected one of them for each file"
                )


def _check_labels(path: Path, labels: set[str]) -> None:
    """Raise UserError for labels that look the same; single letters may differ in case."""
    alike: dict[str, list[str]] = {}
    for label in sorted(labels):
        blank_free = " ".join(label.split())
        folded = blank_free if len(blank_free) == 1 else blank_free.casefold()
        alike.setdefault(folded, []).append(label)
    if found := [group for group in alike.values() if len(group) > 1]:
        listed = "; ".join(" and ".join(map(repr, group)) for group in found[:5])
        raise UserError(
            f"{path}: labels that differ only in spaces or in case would be different classes: "
            f"{listed}. Write each class in one way"
        )


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"there is no file {path}: list: takes the path of a CSV file")
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            heads = reader.fieldnames or ()
            rows = [{"split": "train", **row} for row in reader]
    except (OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from error
    head = ",".join(heads)
    if printable(head) != head or "\0" in head:  # of UTF-16, every other byte is 0
        raise UserError(f"{path} is not UTF-8: save the list as UTF-8 ('CSV UTF-8' in Excel)")
    if not rows or not {"file", "label"} <= set(heads):
        raise UserError(
            f"{path}: expected a first line of {','.join(COLUMNS)} and a line for each image; "
            f"received {len(rows)} images under {head[:200] or 'nothing'}"
        )
    for number, row in enumerate(rows, start=2):
        good = row.get("file") and row.get("label") and row.get("split") in ("train", "test")
        if not good:
            raise UserError(
                f"{path}, line {number}: expected a file, a label and optionally a split, train or "
                f"test, in the columns {','.join(COLUMNS)}; received {row}"
            )
    if strange := [row["label"] for row in rows if printable(row["label"]) != row["label"]]:
        raise UserError(
            f"{path}: the label {printable(strange[0])} is not UTF-8: save the list as UTF-8"
        )
    return rows
