"""Rows: their types, and files that are complete or absent."""

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.lab import results

pytestmark = pytest.mark.slow

SAMPLES = {"string": "text", "int64": 3, "Int64": 2, "float64": 0.25}


def row(**values: Any) -> dict[str, Any]:
    """Make a row with a value in every column except the version, which is filled in."""
    columns = {name: SAMPLES[dtype] for name, (dtype, _) in results.SCHEMA.items()}
    del columns["schema_version"]
    columns["config"] = "{}"
    return columns | values


def files(workdir: Path) -> list[str]:
    return sorted(path.name for path in (workdir / "rows").iterdir())


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The file of a run with three rows."""
    rows = [row(run="r", epoch=epoch, accuracy=10.0 * epoch) for epoch in (1, 2, 3)]
    return Path(results.write_rows(tmp_path, "r", rows))


def test_round_trip(tmp_path: Path) -> None:
    rows = [
        row(run="r", epoch=1, blocks=3, accuracy=1 / 3, loss=1e30, source_sha256=None),
        row(run="r", epoch=2, blocks=None, seed=2**40, dataset="folder:é 写真"),
    ]
    path = results.write_rows(tmp_path, "r", rows)
    assert path == epath.Path(tmp_path) / "rows" / "r.parquet" == results.rows_path(tmp_path, "r")
    table = results.read_rows(tmp_path)
    assert list(table.columns) == list(results.SCHEMA)
    for name, (dtype, _) in results.SCHEMA.items():
        assert table[name].dtype == pd.api.types.pandas_dtype(dtype), name
    assert table["accuracy"][0] == 1 / 3 and table["loss"][0] == 1e30
    assert table["blocks"][0] == 3 and table["blocks"][1] is pd.NA
    assert table["source_sha256"][0] is pd.NA
    assert table["seed"][1] == 2**40
    assert table["dataset"][1] == "folder:é 写真"
    assert (table["schema_version"] == results.SCHEMA_VERSION).all()


@pytest.mark.parametrize("blocks", [None, 0, 16])
def test_blocks_alone_in_their_file(tmp_path: Path, blocks: int | None) -> None:
    results.write_rows(tmp_path, "r", [row(blocks=blocks)])
    table = results.read_rows(tmp_path)
    assert str(table["blocks"].dtype) == "Int64"
    assert table["blocks"].isna().tolist() == [blocks is None]
    assert blocks is None or table["blocks"][0] == blocks


def test_missing_numbers_are_nan(tmp_path: Path) -> None:
    results.write_rows(tmp_path, "r", [row(train_loss=None, train_accuracy=float("nan"))])
    table = results.read_rows(tmp_path)
    assert np.isnan(table["train_loss"][0]) and np.isnan(table["train_accuracy"][0])


@pytest.mark.parametrize("name", [name for name in results.SCHEMA if name != "schema_version"])
def test_missing_columns_are_refused(name: str) -> None:
    incomplete = row()
    del incomplete[name]
    with pytest.raises(ValueError, match=rf"\['{name}'\]"):
        results.frame([row(), incomplete])


def test_unknown_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="acuracy"):
        results.frame([row(acuracy=1.0)])


def test_every_column_has_a_type_and_a_meaning() -> None:
    for name, (dtype, meaning) in results.SCHEMA.items():
        assert dtype in SAMPLES and meaning, name


# ---- Several runs --------------------------------------------------------------------------------


def test_runs_are_gathered_and_sorted(tmp_path: Path) -> None:
    results.write_rows(tmp_path, "b", [row(run="b", epoch=e) for e in (21, 1, 100)])
    results.write_rows(tmp_path, "a", [row(run="a", epoch=e, blocks=None) for e in (100, 1)])
    table = results.read_rows(tmp_path)
    expected = [("a", 1), ("a", 100), ("b", 1), ("b", 21), ("b", 100)]
    assert list(zip(table["run"], table["epoch"], strict=True)) == expected
    assert table.index.tolist() == [0, 1, 2, 3, 4]
    assert str(table["blocks"].dtype) == "Int64"


def test_the_same_run_replaces_its_rows(tmp_path: Path) -> None:
    results.write_rows(tmp_path, "a", [row(epoch=1), row(epoch=2)])
    results.write_rows(tmp_path, "a", [row(epoch=7)])
    assert results.read_rows(tmp_path)["epoch"].tolist() == [7]
    assert files(tmp_path) == ["a.parquet"]


def test_epath_and_text_are_places_too(tmp_path: Path) -> None:
    results.write_rows(epath.Path(tmp_path / "x y"), "a", [row()])
    assert len(results.read_rows(str(tmp_path / "x y"))) == 1
    assert results.read_rows(epath.Path(tmp_path / "x y")).equals(
        results.read_rows(tmp_path / "x y")
    )


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{re.escape(str(tmp_path))} has no results"):
        results.read_rows(tmp_path)
    (tmp_path / "rows").mkdir()
    with pytest.raises(UserError, match="has no results"):
        results.read_rows(tmp_path)


# ---- Whole or not there --------------------------------------------------------------------------


def refuse(after: int, error: Exception | type[BaseException]) -> Callable[..., None]:
    """Return a `to_parquet` that writes some bytes and fails."""

    def to_parquet(table: pd.DataFrame, file: Any, **options: Any) -> None:
        file.write(b"x" * after)
        raise error

    return to_parquet


@pytest.mark.parametrize("older", [False, True])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, older: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if older:
        results.write_rows(tmp_path, "r", [row(epoch=7)])
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", refuse(100, full))
        with pytest.raises(UserError, match=r"cannot write .*r\.parquet .*No space left.*again"):
            results.write_rows(tmp_path, "r", [row(epoch=8)])
    assert files(tmp_path) == (["r.parquet"] if older else [])
    if older:
        assert results.read_rows(tmp_path)["epoch"].tolist() == [7]


def test_an_interruption_leaves_what_was_there(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", refuse(100, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            results.write_rows(tmp_path, "r", [row()])
    assert files(tmp_path) == ["r.parquet"]
    assert len(results.read_rows(tmp_path)) == 3


def test_a_work_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the rows"):
        results.write_rows(tmp_path / "file", "r", [row()])


def test_readers_see_only_finished_files(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a file is being written, a reader finds only the other files."""
    seen: list[int] = []
    to_parquet = pd.DataFrame.to_parquet

    def slow(table: pd.DataFrame, file: Any, **options: Any) -> None:
        file.write(b"")
        assert len(files(tmp_path)) == 2
        seen.append(len(results.read_rows(tmp_path)))
        to_parquet(table, file, **options)

    monkeypatch.setattr(pd.DataFrame, "to_parquet", slow)
    results.write_rows(tmp_path, "another", [row(run="another")])
    assert seen == [3]
    assert files(tmp_path) == ["another.parquet", "r.parquet"]


def test_what_a_kill_leaves_is_ignored(written: Path, tmp_path: Path) -> None:
    (written.parent / ".r.123.abcdef01.tmp").write_bytes(written.read_bytes()[:100])
    assert len(results.read_rows(tmp_path)) == 3


# ---- Damage --------------------------------------------------------------------------------------


def test_cut_files_are_named(written: Path, tmp_path: Path) -> None:
    whole = written.read_bytes()
    results.write_rows(tmp_path, "whole", [row()])
    for length in {0, 1, 4, 100, len(whole) // 2, len(whole) - 100, len(whole) - 1}:
        written.write_bytes(whole[:length])
        with pytest.raises(UserError, match=f"{re.escape(str(written))} is damaged .* remove it"):
            results.read_rows(tmp_path)


def test_no_flipped_byte_changes_a_number(written: Path, tmp_path: Path) -> None:
    """Parquet writes no checksums unless asked to."""
    whole, expected = written.read_bytes(), results.read_rows(tmp_path)
    refused = 0
    for place in range(0, len(whole), 29):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        written.write_bytes(damaged)
        try:
            pd.testing.assert_frame_equal(results.read_rows(tmp_path), expected)
        except UserError as error:
            assert str(written) in str(error)
            refused += 1
    assert refused > 100


def test_newer_schemas_are_refused(written: Path, tmp_path: Path) -> None:
    newer = results.SCHEMA_VERSION + 1
    results.frame([row(schema_version=newer)]).to_parquet(written)
    with pytest.raises(UserError, match=f"r.parquet has schema {newer}, this code reads up to"):
        results.read_rows(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": [1]}),
        pd.DataFrame({"schema_version": ["one"]}),
        pd.DataFrame({"schema_version": [1], "epoch": ["first"]}),
        pd.DataFrame({"schema_version": [1], "epoch": [1]}),
    ],
)
def test_other_tables_are_named(written: Path, tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_parquet(written)
    with pytest.raises(UserError, match=r"r\.parquet is damaged"):
        results.read_rows(tmp_path)


def test_columns_may_be_added(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another version: old rows lack the column, and old code keeps the new column."""
    with monkeypatch.context() as patch:
        patch.setitem(results.SCHEMA, "later", ("float64", "something"))
        assert results.read_rows(tmp_path)["later"].isna().all()
        results.write_rows(tmp_path, "s", [row(run="s", later=0.5)])
    table = results.read_rows(tmp_path)
    assert table["later"].tolist()[-1] == 0.5
    assert table["run"].tolist() == ["r", "r", "r", "s"]


# ---- What rows hold ------------------------------------------------------------------------------


def test_versions_name_every_package_that_matters() -> None:
    found = results.versions()
    assert {"python", "rtl_jax", "jax", "jaxlib", "flax", "optax", "numpy"} <= found.keys()
    assert found["numpy"] == np.__version__


def test_json_is_compact_sorted_and_reads_back() -> None:
    value = {"b": [1, None], "a": {"y": True, "x": 0.1}}
    text = results.as_json(value)
    assert text == '{"a":{"x":0.1,"y":true},"b":[1,null]}'
    assert json.loads(text) == value


def test_the_time_is_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", results.now())


def test_the_document_lists_every_column() -> None:
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", text, re.MULTILINE)
    assert listed == [
        (column, dtype, meaning) for column, (dtype, meaning) in results.SCHEMA.items()
    ]


IMPOSSIBLE: list[tuple[str, Any]] = [
    *[("num_images", value) for value in (0, -3, 2**50)],
    *[("epoch", -1), ("epochs", -1), ("blocks", -1), ("blocks", 10**6), ("image_size", 10**9)],
    *[("accuracy", value) for value in (-1.0, 100.5, 1e300)],
    *[("eps", -0.5), ("recall", 101.0), ("num_classes", -1), ("num_devices", -1)],
    *[(name, "x" * 2**21) for name in ("source", "dataset", "norm", "config", "run")],
    *[("config", text) for text in ("[" * 10**5, '{"a":' * 70 + "1" + "}" * 70, "[]", "3")],
    *[("config", text) for text in ('{"transfer": 3}', '{"attack": []}', '{"source": null}', "{")],
]


@pytest.mark.parametrize(("column", "value"), IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
def test_rows_that_no_run_writes_are_refused(tmp_path: Path, column: str, value: Any) -> None:
    path = results.write_rows(tmp_path, "r", [row(), row(**{"run": "s", column: value})])
    with pytest.raises(UserError, match="is damaged") as caught:
        results.read_rows(tmp_path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize("column", ["source", "num_images", "accuracy", "config"])
def test_columns_of_another_type_are_refused(tmp_path: Path, column: str) -> None:
    path = results.write_rows(tmp_path, "r", [row()])
    table = pd.read_parquet(path)
    table[column] = [[1, 2]]
    table.to_parquet(path)
    with pytest.raises(UserError, match=f"is damaged .*{column}"):
        results.read_rows(tmp_path)
