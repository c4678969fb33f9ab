"""Other people's logs as rows: a CSV with a line per evaluation, and a mapping of its columns.

    rtl-jax import-logs LOG.csv --mapping FILE.toml --workdir DIR

writes one file to DIR/rows, which `task=report` then reads like any other. Lines that agree in all
that identifies a run (source, target, images, blocks, seed, ...) are that run's evaluations; its
last epoch is the last one in the log, unless `epochs` is mapped. What the log does not say stays
missing, and the rows' `config` holds only what is known.
"""

import argparse
import hashlib
import io
import math
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rtl_jax.errors import UserError, shown
from rtl_jax.lab import results
from rtl_jax.lab.report.mapping import LARGEST, LogMapping, read_mapping
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import read_bytes
from rtl_jax.runtime.output import run_and_exit

# Columns that an evaluation measures; all others identify the run.
_MEASURED = ("epoch", "accuracy", "loss", "train_accuracy", "train_loss", "seconds")
_UNKNOWN: dict[Hashable, int] = {
    "num_classes": 0,
    "num_test_images": 0,
    "image_size": 0,
    "num_devices": 0,
}


def import_log(log: Path, mapping: LogMapping, workdir: Path) -> list[str]:
    """Write a log's rows to a work directory; return each line's run.

    Importing the same log with the same mapping again replaces its file. Raises UserError for an
    unreadable log, a missing column, a value that the mapping does not list, an invalid number, or
    two evaluations of one run after the same epoch.
    """
    table = _mapped(_read(log), log, mapping)
    identity = [column for column in table if column not in _MEASURED]
    _require_single(table, [*identity, "epoch"], log)
    groups = table.groupby(identity, dropna=False, sort=False)
    if "epochs" not in table:
        table["epochs"] = groups["epoch"].transform("max")
    runs = _identifiers(groups.ngroup(), table[[*identity, "epoch", "accuracy"]])
    rows = _rows(table.assign(run=runs), identity)
    results.write_rows(workdir, _identifier("".join(runs)), rows)
    return runs


def main(arguments: Sequence[str], prog: str = "rtl-jax import-logs") -> int:
    """Import the log that the command line names; return 0, or 2 for user-fixable errors."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", metavar="LOG.csv", type=Path)
    parser.add_argument("--mapping", metavar="FILE.toml", type=Path, required=True)
    parser.add_argument("--workdir", metavar="DIR", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        runs = import_log(options.log, read_mapping(options.mapping), options.workdir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(set(runs)):,} runs, {len(runs):,} rows: {options.workdir / 'rows'}")
    return 0


def _read(log: Path) -> pd.DataFrame:
    """Read a log with every value as text."""
    try:
        content = io.BytesIO(read_bytes(log, limits.TABLE_BYTES))
        table = pd.read_csv(content, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{log} is not a readable CSV file ({error})") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{log}: expected as many values in each line as the header has columns")
    if table.empty:
        raise UserError(f"{log} has no lines below its header: expected one per evaluation")
    return table


def _mapped(log: pd.DataFrame, path: Path, mapping: LogMapping) -> pd.DataFrame:
    """Return the columns of rows that a log fills, with the schema's dtypes."""
    columns = {}
    for column, name in mapping.columns.items():
        if name not in log:
            raise UserError(
                f"{path} has no column {name!r}, which {mapping.path} takes for {column}: it has "
                f"{', '.join(map(repr, log.columns))}"
            )
        columns[column] = _converted(log[name], column, path, mapping)
    for column, value in mapping.constants.items():
        columns[column] = pd.Series(value, log.index, results.SCHEMA[column][0])
    table = pd.DataFrame(columns)
    for column in table:
        _require_bounds(table[column], path, mapping)
    return table


def _require_bounds(values: pd.Series, path: Path, mapping: LogMapping) -> None:
    """Raise UserError for a value outside the bounds that `read_rows` enforces."""
    column = str(values.name)
    if column in results.BOUNDS:
        low, high = results.BOUNDS[column]
        outside = values.notna() & ~values.between(low, high)
        if column != "accuracy":  # an unbounded attack has an infinite radius
            outside &= values.abs() != math.inf
        expected = "percent" if column == "accuracy" else f"{low:,} to {high:,}"
    elif values.dtype == "string":
        outside = values.str.len() > limits.TEXT
        expected = f"at most {limits.TEXT:,} characters"
    else:
        return
    if (outside := outside.fillna(False)).any():
        line = outside.idxmax()
        value = values[line]
        received = shown(value) if isinstance(value, str) else f"{value:g}"
        raise UserError(
            f"{path}, line {line + 2}: {column}: expected {expected}, received {received}: "
            f"correct it, or {mapping.path}"
        )


def _converted(values: pd.Series, column: str, path: Path, mapping: LogMapping) -> pd.Series:
    """Map a column's values and cast it to the schema's dtype; "" is missing."""
    meanings = mapping.values.get(column)
    if meanings is not None:
        unknown = ~values.isin(list(meanings))
        if unknown.any():
            raise UserError(
                f"{path}, line {unknown.idxmax() + 2}: unknown {column} "
                f"{shown(values[unknown.idxmax()])}: expected one of {', '.join(meanings)}, or "
                f"another line in [values.{column}] of {mapping.path}"
            )
        values = values.map({given: str(meaning) for given, meaning in meanings.items()})
    dtype = results.SCHEMA[column][0]
    missing = values == ""
    if dtype == "string":
        return values.mask(missing).astype(dtype)
    numbers = pd.to_numeric(values, errors="coerce")
    if column in mapping.missing:
        nothing = numbers == mapping.missing[column]
        missing, numbers = missing | nothing, numbers.mask(nothing)
    whole = dtype != "float64"
    wrong = numbers.isna() & ~missing & (whole | (values.str.lower() != "nan"))
    wrong |= missing & (dtype == "int64")
    numbers = numbers * mapping.factors.get(column, 1)
    wrong |= whole & numbers.notna() & ((numbers % 1 != 0) | (numbers.abs() > LARGEST))
    if wrong.any():
        line = wrong.idxmax()
        raise UserError(
            f"{path}, line {line + 2}: {column}: expected a {'whole ' if whole else ''}number, "
            f"received {shown(values[line])}: correct it"
        )
    return numbers.astype(dtype)


def _require_single(table: pd.DataFrame, identity: Sequence[str], path: Path) -> None:
    repeated = table.duplicated(list(identity), keep="first")
    if repeated.any():
        second = repeated.idxmax()
        # Groups, unlike ==, take two missing values for the same.
        evaluations = table.groupby(list(identity), dropna=False, sort=False).ngroup()
        first = (evaluations == evaluations[second]).idxmax()
        raise UserError(
            f"{path}, lines {first + 2} and {second + 2}: the same run after the same epoch: "
            "expected one evaluation; remove one, or map a column that tells the runs apart"
        )


def _identifiers(groups: pd.Series, table: pd.DataFrame) -> list[str]:
    """Return each line's run identifier, a hash of the run's settings and measurements."""
    contents: dict[int, list[tuple[Any, ...]]] = {}
    for group, line in zip(groups, zip(*(table[name] for name in table), strict=True), strict=True):
        contents.setdefault(group, []).append(line)
    found = {group: _identifier(repr(lines)) for group, lines in contents.items()}
    return [found[group] for group in groups]


def _identifier(content: str) -> str:
    """Return a hash of content, as 16 hex digits."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _rows(table: pd.DataFrame, identity: Sequence[str]) -> list[dict[str, Any]]:
    known: dict[Hashable, Any] = {
        **dict.fromkeys(results.SCHEMA),
        **_UNKNOWN,
        "schema_version": results.SCHEMA_VERSION,
        "task": "finetune",
        "method": "transfer",
        "versions": "{}",
        "time": results.now(),
    }
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    return [
        {
            str(name): value
            for name, value in {**known, **record, "config": _config(record, identity)}.items()
        }
        for record in records
    ]


# Columns that hold settings of the group `transfer`, by the settings' names.
_TRAINING = {
    "eps": "train_eps",
    **{
        name: name
        for name in (
            "epochs", "optimizer", "learning_rate", "weight_decay", "perturbation", "beta",
            "head_fit",
        )
    },
}  # fmt: skip


def _config(record: dict[Hashable, Any], identity: Sequence[str]) -> str:
    """Return the known settings of a run, under their names in `rtl_jax.lab.config`.

    The architecture and those of the training are only in it if the log has them, in columns of the
    runs' `identity`.
    """
    known = {name: column for name, column in _TRAINING.items() if column in identity}
    built = {"arch": record["architecture"]} if "architecture" in identity else {}
    groups = {
        "source": {"checkpoint": record["source"], **built},
        "target": {name: record.get(name) for name in ("dataset", "num_images", "image_size")},
        "transfer": {
            **{name: record.get(name) for name in ("blocks", "frozen_batch_norm")},
            **{name: record[column] for name, column in known.items()},
        },
    }
    return results.as_json({"task": "finetune", "seed": record["seed"], **groups})


if __name__ == "__main__":
    run_and_exit(main, sys.argv[1:], "python -m rtl_jax.lab.report.importer")
