"""The TOML file that maps the columns of another program's log to those of a row.

[columns]            a row's column = the log's column that holds it
accuracy = "top1"
[constants]          a row's column = its value in every row
architecture = "resnet50"
[values.dataset]     the meaning of the log's values; all that occur must be listed, "" is missing
cifar10 = "tfds:cifar10"
[missing]            the number that marks a missing measurement in the log
loss = -1
[factors]            what numbers are multiplied by, such as 100 to turn fractions into percent
accuracy = 100
"""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from rtl_jax.errors import UserError, require
from rtl_jax.lab.results import SCHEMA
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import is_number, read_bytes

LARGEST = 2**53  # up to here, every numeric type of a row holds integers exactly
NEEDED = ("source", "dataset", "num_images", "seed", "epoch", "accuracy")
# Columns that the importer itself fills in.
_OWN = ("schema_version", "run", "task", "method", "config", "versions", "time")
MAPPED = tuple(column for column in SCHEMA if column not in _OWN)


@dataclasses.dataclass(frozen=True)
class LogMapping:
    """A checked mapping file; every key is a column of a row that a log may fill."""

    path: Path
    columns: dict[str, str]
    constants: dict[str, Any] = dataclasses.field(default_factory=dict)
    values: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    factors: dict[str, float] = dataclasses.field(default_factory=dict)
    missing: dict[str, float] = dataclasses.field(default_factory=dict)


def read_mapping(path: Path) -> LogMapping:
    """Read a mapping file.

    Raises UserError if it cannot be read, has an unknown table or column, lacks a column that a row
    needs, or has a value of the wrong type or without an effect.
    """
    try:
        tables = tomllib.loads(read_bytes(path, limits.MAPPING_BYTES).decode())
    except (OSError, ValueError, RecursionError) as error:  # TOML and UTF-8 raise ValueError
        raise UserError(f"{path} is not a readable TOML file ({error}): correct it") from error
    parts = [field.name for field in dataclasses.fields(LogMapping) if field.name != "path"]
    for part, table in tables.items():
        if part not in parts or not isinstance(table, dict):
            raise UserError(f"{path}: expected the tables {', '.join(parts)}, received {part!r}")
        _require_columns(path, part, table)
    _require_types(path, tables)
    _require_effect(path, tables)
    given = {**tables.get("columns", {}), **tables.get("constants", {})}
    if missing := [column for column in NEEDED if column not in given]:
        raise UserError(f"{path}: a row needs {', '.join(missing)}: add it to [columns]")
    return LogMapping(path, **{"columns": {}, **tables})


def _require_columns(path: Path, part: str, table: dict[str, Any]) -> None:
    for column in table:
        if column not in MAPPED:
            raise UserError(
                f"{path}: [{part}] has {column!r}, which no log can fill: expected one of "
                f"{', '.join(MAPPED)}"
            )


def _require_effect(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Raise UserError for an entry that would be ignored, or would silently replace the log's."""
    columns = tables.get("columns", {})
    for column in tables.get("constants", {}):
        if column in columns:
            raise UserError(f"{path}: {column} is in [columns] and in [constants]: remove one")
    for part in ("values", "factors", "missing"):
        for column in tables.get(part, {}):
            text = part != "values" and SCHEMA[column][0] == "string"
            if text or column not in columns:
                why = "which is text" if text else "which is not in [columns]"
                raise UserError(f"{path}: [{part}] has {column}, {why}: remove it")


def _require_types(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    wanted = {
        "columns": (str, "the name of a column of the log"),
        "constants": (str | int | float, "text or a number"),
        "values": (dict, "a table"),
        "factors": (int | float, "a number"),
        "missing": (int | float, "a number"),
    }
    for part, table in tables.items():
        kind, words = wanted[part]
        for column, value in table.items():
            good = isinstance(value, kind) and not isinstance(value, bool)
            if good and isinstance(value, int | float):
                good = is_number(value, -LARGEST, LARGEST)
            elif good and part == "values":
                good = all(isinstance(one, str | int | float) for one in value.values())
                words = "a table of texts and numbers"
            elif good:
                good = len(value) <= limits.TEXT
            require(good, f"{path}: [{part}] {column}", words, value)
        if part == "constants":
            _require_numbers(path, table)


def _require_numbers(path: Path, constants: dict[str, Any]) -> None:
    """Require constants to have their columns' types, as the log's values do."""
    for column, value in constants.items():
        dtype = SCHEMA[column][0]
        good = isinstance(value, str) == (dtype == "string")
        good &= dtype in ("string", "float64") or isinstance(value, int)
        words = {"string": "text", "float64": "a number"}.get(dtype, "a whole number")
        require(good, f"{path}: [constants] {column}", words, value)
