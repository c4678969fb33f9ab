"""The published study: its configs make one grid, and its page says what its rows say."""

import itertools
import re
from pathlib import Path

import pytest

from rtl_jax import bundled, cli
from rtl_jax.experiment import run
from rtl_jax.report.accuracy import tables
from rtl_jax.report.formats import to_markdown
from rtl_jax.report.runs import finetunings
from rtl_jax.results import read_rows
from rtl_jax.sweep.grid import cells

ROOT = Path(__file__).parents[1]
PARTS = sorted(path.stem for path in (ROOT / "configs" / "study").glob("*.py"))
PAGE = (ROOT / "docs" / "study.md").read_text(encoding="utf8")


def parse(part: str, *arguments: str):
    """The settings of a part, its overrides given as on the command line."""
    return cli.parse(["--config", str(ROOT / "configs" / "study" / f"{part}.py"), *arguments])[0]


def test_the_parts_share_everything_but_images_and_epochs():
    found = [parse(part) for part in PARTS]
    sizes = [settings.sweep.num_images for settings in found]
    assert sorted(sizes) == [(100,), (400,), (1600,)]
    for settings in found:
        assert {f"bundled:{name}" for name in bundled.names()} == set(settings.sweep.sources)
    runs = [{c.experiment.transfer.epochs for c in cells(settings)} for settings in found]
    steps = [epochs.pop() * size // 100 for epochs, (size,) in zip(runs, sizes, strict=True)]
    assert dict(zip(PARTS, steps, strict=True)) == {
        "transfer100": 60, "transfer400": 120, "transfer1600": 240,
    }  # fmt: skip
    for one, other in itertools.combinations(found, 2):
        same = [s.to_dict()["target"] | s.to_dict()["augmentation"] for s in (one, other)]
        assert same[0] == same[1]


def test_the_page_holds_the_tables_that_its_rows_make():
    found = finetunings(read_rows(ROOT / "docs" / "study"))
    shown = re.findall(r"^\|.*\|$", PAGE, re.MULTILINE)
    made = tables(found, finetunings(read_rows(ROOT / "docs" / "study"), "linear_pixels"))
    assert len(made) == 3
    for table in made:
        lines = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
        assert len(lines) > 3
        assert set(lines) <= set(shown), table.title


def test_its_rows_are_of_the_sources_that_are_bundled():
    """A source that is trained anew makes the page old: its rows name the networks."""
    rows = read_rows(ROOT / "docs" / "study")
    assert set(rows["source"]) <= {f"bundled:{name}" for name in bundled.names()}
    assert (
        rows.groupby(["dataset", "blocks", "num_images", "source"])["seed"].nunique() == 10
    ).all()
    size = sum(path.stat().st_size for path in (ROOT / "docs" / "study" / "rows").iterdir())
    assert size < 2e6


@pytest.mark.parametrize("part", ["transfer400"])
def test_a_part_runs_on_what_there_is(part: str, tmp_path: Path, monkeypatch, capsys):
    """Without a data directory: the named set is missing, the digits are there."""
    monkeypatch.setenv("RTL_JAX_DATA_DIR", str(tmp_path / "nothing"))
    settings = parse(
        part, "--config.sweep.targets=tfds:kmnist_partial,digits", "--config.sweep.blocks=0",
        "--config.sweep.sources=bundled:natural,bundled:l2", "--config.sweep.num_images=100",
        "--config.target.num_test_images=600",
        "--config.sweep.seeds=2",
    )  # fmt: skip
    rows = run(settings, tmp_path)
    assert "missing: target tfds:kmnist_partial" in capsys.readouterr().out
    assert set(rows["dataset"]) == {"digits"} and rows["run"].nunique() == 4
    assert (rows[rows["epoch"] == rows["epochs"]]["accuracy"] > 30).all()  # chance is 10
