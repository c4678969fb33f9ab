"""A run that was interrupted after its rows leaves nothing behind once it is requested again."""

from pathlib import Path

import pytest

from rtl_jax.errors import UserError
from rtl_jax.lab import results, tasks
from rtl_jax.lab.config import GROUPS, Experiment, freeze
from rtl_jax.lab.run import Run, open_run


def a_row() -> dict:
    filled = {"run": "one", "method": "transfer", "architecture": "tiny", "platform": "cpu"}
    numbers = dict.fromkeys(("num_classes", "num_test_images", "num_devices"), 1)
    return results.row(Experiment(), **filled, **numbers)


def test_what_served_to_resume_goes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "runs" / "one" / "batches"
    scratch.mkdir(parents=True)
    with open_run(tmp_path, "one", scratch="batches") as run:
        assert run.pending and scratch.exists()
        with monkeypatch.context() as patch:
            patch.setattr(Run, "clean", lambda _: None)  # killed between the two
            run.finish([a_row()])
    assert scratch.exists()
    with open_run(tmp_path, "one", scratch="batches") as run:
        assert not run.pending
    assert not scratch.exists() and len(run.rows()) == 1


@pytest.mark.parametrize("task", sorted({*GROUPS} - {*tasks.DRY}))
def test_a_dry_run_is_never_a_real_one(task: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"dry_run: expected false with task '{task}'"):
        tasks.run(freeze({"task": task, "dry_run": True}), tmp_path / "work")
    assert not (tmp_path / "work").exists()
