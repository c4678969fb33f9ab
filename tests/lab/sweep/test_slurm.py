"""Jobs of a Slurm cluster, run by submitit in this process and on this machine."""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rtl_jax.errors import UserError
from rtl_jax.lab.config import Slurm
from rtl_jax.lab.sweep import cells as cells_module
from rtl_jax.lab.sweep import slurm as module
from rtl_jax.lab.sweep.executors import EXECUTORS
from rtl_jax.lab.sweep.grid import cells, groups
from rtl_jax.lab.sweep.task import run_sweep
from tests.lab.sweep.test_sweep import experiment, measured


def on(cluster: str, **grid):
    asked = Slurm(cluster, gpus=0, cpus=1)
    return dataclasses.replace(experiment(**grid), executor="slurm", slurm=asked)


def test_it_needs_submitit(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"package submitit: pip install 'rtl-jax\[slurm\]'"):
        next(EXECUTORS["slurm"]([], on("local"), str(tmp_path)))


def test_it_needs_slurm(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    one = on("slurm", num_images=(20,))
    with pytest.raises(UserError, match="executor: Slurm did not accept the jobs.*srun"):
        next(EXECUTORS["slurm"](groups(cells(one)), one, str(tmp_path)))


def test_a_job_that_was_killed_says_its_state():
    message = (
        "Job 12_0 (task: 0) with path slurm/12_0/12_0_0_result.pkl\n"
        "has not produced any output (state: OUT_OF_MEMORY)\n"
        "Error stream produced:\n----\nslurmstepd: error: Detected 1 oom_kill event"
    )
    job = SimpleNamespace(
        exception=lambda: RuntimeError(message), job_id="12_0", paths=SimpleNamespace(stderr="log")
    )
    with pytest.raises(UserError, match=r"job 12_0 has failed .*state: OUT_OF_MEMORY.*is log;"):
        module._result(job)


def failing(message: str, mendable: bool):
    def fail(*_):
        raise UserError(message) if mendable else RuntimeError(message)

    return fail


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fail", "said"),
    [
        (failing("target: mend it", True), "^target: mend it$"),
        (
            failing("cause\nlast words", False),
            "has failed .RuntimeError: cause.: its log is .*log.err",
        ),
    ],
    ids=["user", "defect"],
)
def test_what_a_job_raises_ends_the_sweep_with_a_sentence(tmp_path, monkeypatch, fail, said):
    pytest.importorskip("submitit")
    monkeypatch.setattr(module, "run_cells", fail)  # goes with the job, by value
    one = on("local", num_images=(20,))
    with pytest.raises(UserError, match=said):
        list(EXECUTORS["slurm"](groups(cells(one)), one, str(tmp_path)))


@pytest.mark.slow
def test_jobs_leave_the_rows_that_this_process_would(tmp_path: Path, monkeypatch):
    """In separate processes; cells with rows are not repeated."""
    pytest.importorskip("submitit")
    rng = np.random.default_rng(0)
    halves = {}
    for half in ("train", "test"):
        halves[f"x_{half}"] = rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
        halves[f"y_{half}"] = np.arange(60) % 10
    np.savez(tmp_path / "noise.npz", **halves)
    targets = ("digits", f"npz:{tmp_path / 'noise.npz'}")
    grid = {"targets": targets, "num_images": (20,), "seeds": 1}
    here = run_sweep(experiment(**grid), tmp_path / "here")
    there = run_sweep(on("local", **grid), tmp_path / "there")
    assert set(there["dataset"]) == set(targets)
    pd.testing.assert_frame_equal(measured(there), measured(here), check_exact=True)
    monkeypatch.setattr(cells_module, "_train", lambda *_: pytest.fail("trained again"))
    again = run_sweep(experiment(**grid), tmp_path / "there")
    pd.testing.assert_frame_equal(again, there)
