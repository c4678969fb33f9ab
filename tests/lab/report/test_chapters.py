"""Chapters on accuracy, and reports as a whole."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rtl_jax.lab import results
from rtl_jax.lab.report import published
from rtl_jax.lab.report.chapters import compose
from rtl_jax.lab.report.elements import Figure, Table, Text
from rtl_jax.lab.report.runs import EVERY, finetunings
from tests.lab.report.rows import L2, cell, finetuning, frame, other, seed
from tests.lab.report.tables import elements, table


def test_table_7():
    natural, robust = [22.5, 23.5, 25.5], [37.0, 39.0, 38.9]
    rows = frame(cell(natural), cell(robust, source=L2), cell([20.0], source="random", blocks=None))
    found = elements(compose(rows))["table7"]
    assert isinstance(found, Table) and len(found.rows) == 60
    line = next(row for row in found.rows if (row[0].text, row[1].text) == ("SVHN", "100"))
    entries = dict(zip(found.columns, line, strict=True))
    mean, error = np.mean(natural), stats.sem(natural)
    half = stats.t.ppf(0.975, 2) * error
    assert entries["natural"].text == f"{mean:.2f} ± {half:.2f}"
    assert entries["natural, published"].value == 23.5
    assert entries["natural, difference"].text == f"{(mean - 23.5) / error:+.1f}"
    assert entries["L2 eps=3"].best and not entries["natural"].best
    assert entries["from scratch"].text == "20.00"  # of one seed: no interval, no standard error
    assert entries["from scratch, difference"].missing and not entries["from scratch"].best
    assert entries["Linf eps=8/255"].missing and entries["Linf eps=8/255, published"].value == 35.75
    measured = [row for row in found.rows if any(not row[place].missing for place in (3, 6, 9, 12))]
    assert measured == [line]
    marked = [row[found.columns.index("L2 eps=3, published")].best for row in found.rows]
    expected = published.table7().drop(columns=published.SCRATCH)
    assert sum(marked) == (expected["L2 eps=3"] == expected.max(axis=1)).sum()


@pytest.mark.parametrize(
    "other_cell",
    [{"dataset": "digits"}, {"source": "bundled:l2"}, {"blocks": 1}, {"size": 150}],
)
def test_table_7_is_left_out_where_nothing_of_it_was_measured(other_cell: dict):
    assert "table7" not in elements(compose(frame(cell([50, 60], **other_cell))))


@pytest.mark.parametrize("changed", [{"folds": 5, "fold": 1}, {"classes": [0, 1]}])
def test_folds_and_fewer_classes_have_no_published_numbers(changed: dict):
    settings = {"config": json.dumps({"target": changed}), "fold": changed.get("fold")}
    found = elements(compose(frame(cell([50, 60], **settings))))
    assert "table7" not in found and "accuracy_3_blocks" in found
    rows = frame(cell([50, 60], **settings), cell([80, 90], dataset="tfds:kmnist"))
    lines = table(compose(rows), "table7").set_index(["target", "images"])["natural"]
    assert lines["SVHN", "100"] == "" and lines["KMNIST", "100"].startswith("85.00")
    place = {"dataset": "tfds:caltech101", "size": 3000, "source": L2}
    rows = frame(cell([80, 82], variant="low_resolution=32", **place, **settings))
    assert table(compose(rows), "table2")["Low-Res"].tolist() == ["", ""]


def test_accuracy_tables():
    rows = frame(
        cell([50, 60, 70], dataset="digits", source="bundled:natural", blocks=0),
        cell([53, 62, 74], dataset="digits", source="bundled:l2", blocks=0),
        cell([30, 31], dataset="digits", source="bundled:l2", blocks=0, method="linear_pixels"),
        cell([40, 41], dataset="digits", source="bundled:l2", blocks=0, method="nearest_pixels"),
    )  # fmt: skip
    found = table(compose(rows), "accuracy_0_blocks").iloc[0]
    half = stats.t.ppf(0.975, 2) * stats.sem([3, 2, 4])
    assert found["bundled:l2 - bundled:natural"] == f"+3.00 ± {half:.2f}"
    assert found["seeds"] == "3" and found["linear on pixels"].startswith("30.50")
    assert found["1-NN on pixels"].startswith("40.50") and "ridge on pixels" not in found


def test_figures_by_epoch_mark_11_and_21():
    curves = [{1: 10.0, 11: 40.0, 21: 50.0, 30: 55.0}, {1: 12.0, 11: 44.0, 21: 52.0, 30: 56.0}]
    rows = frame(
        *(finetuning(each, seed=seed(i)) for i, each in enumerate(curves)),
        *(finetuning({epoch: value + 3 for epoch, value in each.items()}, seed=seed(i), source=L2)
          for i, each in enumerate(curves)),
    )  # fmt: skip
    figure = elements(compose(rows))["figure3"]
    assert isinstance(figure, Figure)
    both, difference = figure.charts
    assert difference.marks == [11, 21] and [line.name for line in difference.series] == ["SVHN"]
    assert [(point.x, point.mean) for point in difference.series[0].points] == [
        (1, 3), (11, 3), (21, 3), (30, 3)
    ]  # fmt: skip
    natural = next(line for line in both.series if line.name == "natural")
    half = stats.t.ppf(0.975, 1) * stats.sem([40, 44])
    assert (natural.points[1].mean, natural.points[1].number) == (42, 2)
    assert natural.points[1].half == pytest.approx(half)


def test_figures_by_blocks_take_the_best_epoch():
    groups = [
        finetuning({1: 90.0 + blocks, 9: 50.0}, blocks=blocks, source=L2) for blocks in (0, 1, 3, 9)
    ]
    figure = elements(compose(frame(*groups)))["figure4"]
    assert isinstance(figure, Figure)
    lines, difference = figure.charts
    assert [(line.name, line.points[0].mean) for line in lines.series] == [
        ("0 blocks", 90), ("1 block", 91), ("3 blocks", 93), ("9 blocks", 99)
    ]  # fmt: skip
    assert difference.series[0].points[0].mean == 2  # three minus one


def test_sources_that_are_not_the_papers_are_in_order_of_their_names():
    """In any order of rows; the L2 source is then the first in figures."""
    named = [f"bundled:{name}" for name in ("linf4", "gaussian", "natural", "l2")]
    groups = [cell([50, 60], source=source, blocks=blocks) for source in named for blocks in (1, 3)]
    report = compose(frame(*groups))
    assert finetunings(frame(*groups)).sources == tuple(
        f"bundled:{name}" for name in ("natural", "gaussian", "l2", "linf4")
    )
    for figure, sources in (("figure4", {"l2"}), ("figure11", {"natural", "gaussian", "linf4"})):
        drawn = elements(report)[figure]
        assert isinstance(drawn, Figure)
        titles = {chart.title.split("bundled:")[-1] for chart in drawn.charts}
        assert titles == sources


def test_a_gap_in_a_line_is_missing():
    rows = frame(
        *(cell([50, 51], size=size) for size in (100, 200)), cell([60, 61], source=L2, size=100)
    )
    figure = elements(compose(rows))["figure2"]
    assert isinstance(figure, Figure)
    robust = next(line for line in figure.charts[0].series if line.name == "L2 eps=3")
    assert [point.known for point in robust.points] == [True, False]
    shown = next(line for line in figure.charts[0].series if line.name == "L2 eps=3, published")
    assert shown.dashed and shown.points[0].mean == 37.9


def test_figures_without_their_runs_are_named():
    report = compose(frame(cell([50, 51])))
    texts = [
        each.text for part in report.sections for each in part.elements if isinstance(each, Text)
    ]
    assert any(
        "Not measured here: Figure 2 (needs a natural and a robust" in text for text in texts
    )


@pytest.mark.parametrize(
    "rows",
    [
        frame(),
        frame(cell([50])),
        frame(cell([np.nan, np.nan])),
        frame(cell([np.inf])),
        frame(cell([50, 50], blocks=None)),
        frame(cell([100, 100, 100], size=1), cell([100, 100, 100], size=2)),
        frame([{**row, "source": None, "dataset": None} for row in cell([50])]),
        frame(finetuning({1: 50.0}, config=None, num_images=None, epoch=None, epochs=None)),
        frame(finetuning({1: 50.0}, epochs=9)),  # killed before its end
        frame([other("attack"), other("influence"), other("pretrain")]),
        frame([other("attack", dataset=None, source="x", eps=0.1, accuracy=5.0, config=None)]),
    ],
)
def test_there_is_always_a_report(rows: pd.DataFrame):
    report = compose(rows)
    elements(report)
    assert report.sections and report.summary


def test_every_block_has_its_own_table():
    report = compose(frame(cell([50, 51], blocks=None, source="bundled:l2")))
    assert "accuracy_every_block" in elements(report)
    assert finetunings(frame(cell([50], blocks=None))).blocks == [EVERY]


def test_a_report_needs_no_jax():
    code = (
        "import sys, rtl_jax.lab.report.chapters, rtl_jax.lab.report.importer\n"
        "assert not {'jax', 'flax', 'optax', 'ml_collections'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_of_two_schemas(tmp_path):
    """Rows of an older file without later columns, and of the current schema."""
    old = results.frame(cell([50, 51])).drop(columns=["variant", "test_dataset", "roughness"])
    (tmp_path / "rows").mkdir()
    old.to_parquet(tmp_path / "rows" / "old.parquet")
    results.write_rows(tmp_path, "new", cell([60, 61], source=L2))
    report = compose(results.read_rows(tmp_path))
    assert table(report, "accuracy_3_blocks").loc[0, "L2 eps=3 - natural"].startswith("+10.00")


def test_hundreds_of_sources_are_left_out_by_name():
    """The paper's sources are kept, then the most accurate, as many as a page can show."""
    rows = [cell([50 + number / 10], source=f"net/{number:03d}") for number in range(300)]
    found = finetunings(frame(cell([1]), *rows))
    assert len(found.sources) == 40 and found.sources[0] == "natural"
    assert set(found.sources[1:]) == {f"{number:03d}" for number in range(261, 300)}
    assert any("Omitted" in note and "261" in note for note in found.notes)
