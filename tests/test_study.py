"""The published study: its parts make one grid, and its page agrees with its rows."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.study_page import PAGES, PART_SEEDS, ROWS, Rows, complete, filled, made
from rtl_jax.lab import cli
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.results import read_rows
from rtl_jax.lab.sweep.grid import Cell, cells
from rtl_jax.lab.tasks import run
from rtl_jax.models import bundled
from run import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "study"
PARTS = sorted(path.stem for path in CONFIGS.glob("*.py"))
STEPS = {100: 60, 400: 120, 800: 120, 1600: 240}


def parse(part: str, *arguments: str) -> Experiment:
    """Read the settings of a part, with its overrides as on the command line."""
    return cli.parse(["--config", str(CONFIGS / f"{part}.py"), *arguments])[0]


def grid_of(part: str) -> list[Cell]:
    settings = parse(part)
    return cells(settings) if settings.task == "sweep" else []


def test_every_source_that_is_bundled_is_studied():
    rows = Rows.read()
    assert {f"bundled:{name}" for name in bundled.names()} <= {*rows.study["source"]}


@pytest.mark.parametrize("part", [part for part in PARTS if grid_of(part)])
def test_parts_train_alike(part: str):
    base = grid_of("transfer")[0].experiment
    for cell in grid_of(part):
        one = cell.experiment
        assert one.transfer.epochs * cell.num_images // 100 == STEPS[cell.num_images]
        assert one.transfer.frozen_batch_norm == "source"
        for name in ("learning_rate", "batch_size", "head", "weight_decay", "precision"):
            assert getattr(one.transfer, name) == getattr(base.transfer, name)
        assert (one.target.image_size, one.augmentation.is_identity) == (
            32, part != "augmentation",
        )  # fmt: skip


def test_the_networks_that_are_attacked_are_runs_of_the_study():
    """So their accuracy without an attack is that of three seeds in the tables."""
    known = {cell.member(seed).fingerprint() for cell in grid_of("transfer") for seed in cell.seeds}
    kept = {cell.member(seed).fingerprint() for cell in grid_of("networks") for seed in cell.seeds}
    assert len(kept) == 2 * 4 * 3 * 3 and kept <= known
    assert parse("networks").sweep.keep_networks
    assert parse("robustness").attack.runs == "runs/study_networks"


def test_the_pages_hold_the_tables_that_their_rows_make():
    pages = [page.read_text(encoding="utf8") for page in PAGES]
    contents = made(Rows.read())
    assert all(table.rows for found in contents.values() for table in found)
    assert filled(pages, contents) == pages


def test_published_rows_are_whole_cells_of_the_sources_that_are_bundled():
    """Retraining a source makes the page outdated: its rows name the networks."""
    rows = Rows.read()
    names = {f"bundled:{name}" for name in bundled.names()}
    assert set(rows.study["source"]) <= names | {"random"}
    for name, part in rows._asdict().items():
        assert len(complete(part, PART_SEEDS.get(name))) == len(part)
    assert sum(path.stat().st_size for path in ROWS.rglob("*.parquet")) < 2e6


def test_a_part_runs_on_what_there_is(tmp_path: Path, monkeypatch, capsys):
    """Without a data directory: the named dataset is missing, the digits are available."""
    monkeypatch.setenv("RTL_JAX_DATA_DIR", str(tmp_path / "nothing"))
    settings = parse(
        "transfer", "--config.sweep.targets=tfds:kmnist_partial,digits", "--config.sweep.blocks=0",
        "--config.sweep.sources=bundled:natural,bundled:l2", "--config.sweep.num_images=100",
        "--config.sweep.epochs=30", "--config.target.num_test_images=600",
        "--config.sweep.seeds=2",
    )  # fmt: skip
    rows = run(settings, tmp_path)
    assert "missing: target tfds:kmnist_partial" in capsys.readouterr().out
    assert set(rows["dataset"]) == {"digits"} and rows["run"].nunique() == 4
    assert (rows[rows["epoch"] == rows["epochs"]]["accuracy"] > 30).all()  # chance is 10


# Writes down what it is asked to run, a word on each line and an empty line behind each command.
RECORDER = """#!/bin/sh
for word in "$@"; do echo "$word" >> "$RECORD"; done
echo >> "$RECORD"
"""


def commands_of(target: str, tmp_path: Path, *variables: str) -> list[list[str]]:
    """List the arguments of a Makefile target's `python run.py` commands, without running any."""
    python, record = tmp_path / "venv" / "bin" / "python", tmp_path / "record"
    python.parent.mkdir(parents=True)
    python.write_text(RECORDER)
    python.chmod(0o755)
    (tmp_path / "venv" / ".installed").touch()
    subprocess.run(
        ["make", target, f"VENV={tmp_path / 'venv'}", *variables],
        cwd=ROOT, env={**os.environ, "RECORD": str(record)}, capture_output=True, check=True,
    )  # fmt: skip
    found = [one.split("\n") for one in record.read_text().strip().split("\n\n")]
    assert all(words[0] == "run.py" for words in found)
    return [words[1:] for words in found]


# Other sweeps like the first, of which `test_parts_train_alike` reads the settings.
ONLY_READ = {"epochs", "rates", "heads", "modes", "augmentation", "adversarial"}


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_study_smoke_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs in this process what make would start, in sequence; some parts are only parsed."""
    commands = commands_of("study-smoke", tmp_path, f"SMOKE={tmp_path}")
    monkeypatch.chdir(ROOT)
    by_part = {Path(words[1]).stem: words for words in commands}
    assert len(by_part) == len(commands) == 11 and by_part.keys() > ONLY_READ
    for part, words in by_part.items():
        if part in ONLY_READ:
            settings, workdir = cli.parse(words)
            assert settings.task == "sweep" and Path(workdir).parent == tmp_path
            kinds = len(settings.sweep.head_fits) or 1
            assert len(cells(settings)) == 2 * kinds  # of two sources
        else:
            assert main(words) == 0
    rows = read_rows(tmp_path / "study")
    tasks = rows.groupby("task")["run"].nunique()
    # Two sources, two seeds; one explanation of two networks.
    assert dict(tasks) == {"sweep": 4, "attack": 4, "finetune": 2, "influence": 1}
    assert set(rows["dataset"]) == {"digits"}
    assert (tmp_path / "study" / "report" / "index.html").exists()
