"""Predictions on disk: complete pieces, joined at the end into one file, CSV or Parquet.

Pieces stay in their own folder until all are finished, so that the same command resumes after an
interruption. Each is held in memory only until it is written.

In a CSV file, names that a spreadsheet would take for a formula are prefixed by an apostrophe.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from rtl_jax.errors import UserError
from rtl_jax.lab.predict.guaranteed import Guaranteed
from rtl_jax.runtime.paths import complete_or_absent

ROWS = 1024  # of a piece
ENDINGS = (".csv", ".parquet")

# What a spreadsheet takes for a formula, including full-width characters, and the same after
# apostrophes, so that `read` knows which apostrophes were added.
_STARTS = r"(?:\s*[=+\-@\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}]|[\t\r\n])"
_FORMULA = rf"\A('*{_STARTS})"
_QUOTED = rf"\A'('*{_STARTS})"


def schema(top: int, explained: int, guaranteed: Guaranteed | None = None) -> pa.Schema:
    """Return the columns, in order; see docs/predict.md."""
    columns = [("file", pa.string()), ("error", pa.string())]
    for rank in range(1, top + 1):
        columns += [(f"class_{rank}", pa.string()), (f"probability_{rank}", pa.float64())]
    columns += guaranteed.columns if guaranteed else []
    for rank in range(1, explained + 1):
        columns += [
            (f"training_image_{rank}", pa.string()),
            (f"training_label_{rank}", pa.string()),
            (f"influence_{rank}", pa.float64()),
        ]
    return pa.schema(columns)


class Pieces:
    """The finished pieces of one prediction, in a folder."""

    def __init__(self, directory: Path, columns: pa.Schema):
        self._directory, self._columns = directory, columns

    @property
    def done(self) -> int:
        """The number of rows written."""
        return ROWS * len(self._paths())

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows, piece by piece; the last piece may have fewer than `ROWS`."""
        piece: list[Mapping[str, Any]] = []
        for row in rows:
            piece.append(row)
            if len(piece) == ROWS:
                self._write(piece)
                piece = []
        if piece:
            self._write(piece)

    def join(self, destination: Path) -> int:
        """Join all pieces into one file, replacing an older one; return the number of errors."""
        broken = 0
        with (
            complete_or_absent(destination, replace=True) as temporary,
            _writer(Path(temporary), destination.suffix, self._columns) as writer,
        ):
            for table in self._tables():
                broken += len(table) - table["error"].null_count
                csv = destination.suffix == ".csv"
                writer.write_table(_replaced(table, _FORMULA, r"'\1") if csv else table)
        # In reverse order: if this is interrupted, the first pieces are left.
        for path in reversed(self._paths()):
            path.unlink()
        self._directory.rmdir()
        return broken

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("*.parquet"))

    def _write(self, rows: list[Mapping[str, Any]]) -> None:
        path = self._directory / f"{len(self._paths()):08d}.parquet"
        table = pa.Table.from_pylist(list(rows), schema=self._columns)
        with complete_or_absent(path) as temporary:
            pq.write_table(table, str(temporary))

    def _tables(self) -> Iterator[pa.Table]:
        for path in self._paths():
            try:
                yield pq.read_table(path)
            except (OSError, pa.ArrowException) as error:
                raise UserError(
                    f"{path} is damaged ({error}): remove {self._directory} and run again"
                ) from error


def _writer(path: Path, suffix: str, columns: pa.Schema) -> Any:
    if suffix == ".parquet":
        return pq.ParquetWriter(str(path), columns)
    return pyarrow.csv.CSVWriter(str(path), columns)


def read(path: Path) -> pd.DataFrame:
    """Read the predictions in a file that `Pieces.join` wrote."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    table = pd.read_csv(path)
    texts = [name for name in table if pd.api.types.is_string_dtype(table[name].dropna())]
    for name in texts:
        column = pa.array(table[name], pa.string(), from_pandas=True)
        table[name] = pc.replace_substring_regex(column, _QUOTED, r"\1").to_pandas()
    return table


def _replaced(table: pa.Table, pattern: str, replacement: str) -> pa.Table:
    """Return a table with every match in its texts replaced."""
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = pc.replace_substring_regex(table[field.name], pattern, replacement)
            table = table.set_column(index, field, texts)
    return table
