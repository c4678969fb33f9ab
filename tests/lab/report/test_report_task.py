"""The task `report`: from any rows to files, without JAX."""

import multiprocessing
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from etils import epath

import run
from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.config import Experiment, Source, Target
from rtl_jax.lab.report import task
from rtl_jax.lab.report.elements import Figure, Report
from rtl_jax.lab.tasks import run as run_task
from rtl_jax.train.recipe import Recipe
from tests.lab.report import chromium
from tests.lab.report.samples import NASTY, nasty_report

ROOT = Path(__file__).parents[3]
REPORT = Experiment(task="report")
DEVICE = {"platform": "cpu", "device_kind": "cpu", "num_devices": 1}


def finetuning(
    seed: int, source: str = "bundled:l2", dataset: str = "digits", size: int = 50, **columns: Any
) -> dict[str, Any]:
    """Make the last row of a fine-tuning of two blocks."""
    experiment = Experiment(
        source=Source(checkpoint=source),
        target=Target(dataset=dataset, num_images=size),
        transfer=Recipe(blocks=2, epochs=3),
        seed=seed,
    )
    values = {"accuracy": 50.0 + seed % 7, "loss": 1.0, "train_accuracy": 90.0, "train_loss": 0.1}
    values |= columns
    return results.row(
        experiment, **DEVICE, run=experiment.fingerprint(), method="transfer", num_classes=10,
        num_images=size, num_test_images=100, blocks=2, frozen_batch_norm="batch", epoch=3,
        epochs=3, seconds=1.0, **values,
    )  # fmt: skip


def write(workdir: Path, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        results.write_rows(workdir, row["run"], [row])


def contents(workdir: Path) -> set[str]:
    """Return the files of a report."""
    directory = workdir / "report"
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def complete(workdir: Path) -> str:
    """Return the page after checking that all files that it links to exist."""
    html = (workdir / "report" / "index.html").read_text()
    linked = set(re.findall(r'href="((?:tables|figures)/[^"]+)"', html))
    assert contents(workdir) == linked | {"index.html"}
    return html


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """Two sources with three seeds each, at two sizes."""
    sizes = (50, 100)
    for size in sizes:
        rows = [
            finetuning(seed, source, size=size)
            for source in ("bundled:natural", "bundled:l2")
            for seed in range(3)
        ]
        write(tmp_path, rows)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write figures without matplotlib, which takes most of a report's time."""

    def draw(directory: epath.Path, figure: Figure, looks: object) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for ending in ("svg", "png"):
            (directory / f"{figure.name}.{ending}").write_text("")

    monkeypatch.setattr(task, "draw_figure", draw)


# ---- What is written -----------------------------------------------------------------------------


def test_the_page_the_figures_and_the_tables(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run_task(REPORT, workdir)
    html = complete(workdir)
    assert len(rows) == 12 and "bundled:l2" in html
    assert {Path(name).suffix for name in contents(workdir)} == {
        ".html", ".svg", ".png", ".csv", ".tex", ".md",
    }  # fmt: skip
    told = capsys.readouterr().out
    assert str(workdir / "report" / "index.html") in told and "12 rows of 12 runs" in told


def test_from_the_command_line_without_jax(tmp_path: Path) -> None:
    """With any config, and with the report's own; no computing library is imported."""
    write(tmp_path, [finetuning(1)])
    script = """
import sys, run
code = run.main(sys.argv[1:])
heavy = ("jax", "jaxlib", "flax", "optax", "orbax", "tensorflow", "torch", "sklearn")
print("imported:", *[name for name in heavy if name in sys.modules])
sys.exit(code)
"""
    for arguments in (["configs/report.py"], ["configs/sweep_digits.py", "--config.task=report"]):
        command = [sys.executable, "-W", "error", "-c", script, "--workdir", str(tmp_path)]
        done = subprocess.run(
            [*command, "--config", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("imported:\n") and not done.stderr
    complete(tmp_path)


@pytest.mark.usefixtures("quick")
def test_it_is_written_anew_from_what_there_is(workdir: Path) -> None:
    run_task(REPORT, workdir)
    before = (workdir / "report" / "index.html").read_text()
    run_task(REPORT, workdir)
    assert (workdir / "report" / "index.html").read_text() == before
    write(workdir, [finetuning(9, "another source")])
    run_task(REPORT, workdir)
    assert "another source" not in before
    assert "another source" in (workdir / "report" / "index.html").read_text()


@pytest.mark.usefixtures("quick")
def test_a_failure_leaves_the_page_that_was_there(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_task(REPORT, workdir)
    page = workdir / "report" / "index.html"
    before = page.read_bytes()

    def fail(report: Report) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(task, "render", fail)
    with pytest.raises(KeyboardInterrupt):
        run_task(REPORT, workdir)
    assert page.read_bytes() == before
    assert not [path for path in workdir.rglob("*") if path.suffix == ".tmp"]


def _report(workdir: Path) -> None:
    run_task(REPORT, workdir)


def test_processes_at_once_leave_whole_files(tmp_path: Path) -> None:
    write(tmp_path, [finetuning(1)])
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_report, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert complete(tmp_path).endswith("</html>")
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]


def test_a_report_of_nasty_texts(tmp_path: Path) -> None:
    task.write_report(task.absolute(tmp_path / "report"), nasty_report(tmp_path))
    complete(tmp_path)


# ---- Rows of every kind --------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_one_seed(tmp_path: Path) -> None:
    write(tmp_path, [finetuning(1, "one"), finetuning(1, "two")])
    run_task(REPORT, tmp_path)
    html = complete(tmp_path)
    assert "nan" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", html, flags=re.S)


def test_diverged_runs(tmp_path: Path) -> None:
    for seed, value in enumerate([float("nan"), float("inf")]):
        write(tmp_path, [finetuning(seed), finetuning(5 + seed, accuracy=value)])
        write(tmp_path, [finetuning(seed, "lost", accuracy=value)])
        write(tmp_path, [finetuning(seed, "diverged", loss=value, train_loss=value)])
    run_task(REPORT, tmp_path)
    assert "diverged" in complete(tmp_path)


@pytest.mark.usefixtures("quick")
def test_names_from_the_data_are_escaped(tmp_path: Path) -> None:
    """Also in a browser, if there is one."""
    names = [name for name in NASTY if name.strip()]
    write(tmp_path, [finetuning(seed, name) for name in names[:4] for seed in range(2)])
    write(tmp_path, [finetuning(seed, "s", f"folder:{names[1]}/{name}") for seed, name in
                     enumerate(names[4:])])  # fmt: skip
    run_task(REPORT, tmp_path)
    html = complete(tmp_path)
    assert html.count("<script>") == 1 and "<img src=x" not in html
    if chromium.BROWSER:
        document, console = chromium.browse(tmp_path / "report" / "index.html")
        assert not console and "<title>taken" not in document


@pytest.mark.usefixtures("quick")
def test_an_older_schema_lacks_columns(workdir: Path) -> None:
    path = next((workdir / "rows").iterdir())
    pd.read_parquet(path).drop(columns=["inspected", "recall"]).to_parquet(
        path, write_page_checksum=True
    )
    run_task(REPORT, workdir)
    complete(workdir)


def main(workdir: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a report that must fail; return its one line of error."""
    assert run.main(["--config", str(ROOT / "configs/report.py"), "--workdir", str(workdir)]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1 and not shown.out
    assert not (workdir / "report").exists()
    return shown.err


def test_a_newer_schema(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((workdir / "rows").iterdir())
    pd.read_parquet(path).assign(schema_version=99).to_parquet(path, write_page_checksum=True)
    assert "has schema 99" in main(workdir, capsys)


def test_a_directory_without_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no results: expected Parquet files in" in main(tmp_path, capsys)
    assert "has no results" in main(tmp_path / "absent", capsys)


def test_a_damaged_file(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((workdir / "rows").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    assert str(path) in main(workdir, capsys)


def test_a_place_that_cannot_be_written(workdir: Path) -> None:
    (workdir / "report").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*report"):
        run_task(REPORT, workdir)
