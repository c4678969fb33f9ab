"""Predictions on disk: names cannot act as formulas, and all names and numbers are preserved."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest

from rtl_jax.lab.predict.output import ROWS, Pieces, read, schema

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


def test_an_interrupted_removal_leaves_a_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the same command writes only the missing pieces again."""
    directory, columns = tmp_path / "pieces", schema(1, 0)
    rows = [{"file": f"{index}.png"} for index in range(2 * ROWS + 5)]
    Pieces(directory, columns).write(rows)
    unlink = Path.unlink

    def unlink_and_die(self: Path, *arguments: bool) -> None:
        unlink(self, *arguments)
        if self.parent == directory and not self.name.startswith("."):
            raise KeyboardInterrupt

    for left in (2, 1):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "unlink", unlink_and_die)
            Pieces(directory, columns).join(tmp_path / "out.csv")
        assert Pieces(directory, columns).done == left * ROWS
    again = Pieces(directory, columns)
    again.write(rows[again.done :])
    again.join(tmp_path / "out.csv")
    assert read(tmp_path / "out.csv")["file"].tolist() == [row["file"] for row in rows]
    assert not directory.exists()


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
