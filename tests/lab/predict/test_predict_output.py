"""Predictions on disk: no name is a formula, and every name and number is found again."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest

from rtl_jax.lab.predict.output import Pieces, read, schema

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "-a",
    "@SUM(A1)",
    "\t=1",
    "\rx",
    " =x",
    "'=1",
    "''+1",
    "\uff1d1",
    "\n-",
]
HARMLESS = ["cat", "'tis", "a=b", "1-2", "", "é", "x\n=1", "''"]


def written(directory: Path, ending: str, names: list[str]) -> Path:
    (directory / "pieces").mkdir()
    pieces = Pieces(directory / "pieces", schema(1, 1))
    pieces.write(
        {
            **{"file": name, "class_1": name, "training_image_1": name, "training_label_1": name},
            **{"probability_1": 0.5, "influence_1": -0.25, "error": name},
        }
        for name in names
    )
    pieces.join(directory / f"out.{ending}")
    return directory / f"out.{ending}"


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    path = written(tmp_path, "csv", FORMULAS + HARMLESS)
    with path.open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    assert len(rows) == len(FORMULAS + HARMLESS)
    for row, name in zip(rows, FORMULAS + HARMLESS, strict=True):
        numbers = [float(row[3]), float(row[6])]
        assert numbers == [0.5, -0.25]  # signs of numbers are no formula's
        for cell in (row[0], row[1], row[2], row[4], row[5]):
            assert cell == (f"'{name}" if name in FORMULAS else name)
            assert not cell.startswith(tuple("=+-@\t\r"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_names_are_found_again(tmp_path: Path, ending: str) -> None:
    names = [name for name in FORMULAS + HARMLESS if name]
    table = read(written(tmp_path, ending, names))
    for column in ("file", "class_1", "training_image_1", "training_label_1"):
        assert table[column].tolist() == names
    assert table["influence_1"].tolist() == [-0.25] * len(names)


def test_parquet_has_names_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet", FORMULAS)
    assert pa.parquet.read_table(path)["file"].to_pylist() == FORMULAS
