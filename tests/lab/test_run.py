"""What becomes of a finished run that is requested again."""

import itertools
from pathlib import Path

import pytest

from rtl_jax.errors import UserError
from rtl_jax.lab import results, tasks
from rtl_jax.lab.config import GROUPS, Experiment, Pretraining, Source, Sweep, Target, freeze
from rtl_jax.lab.run import Run, open_run
from rtl_jax.models.network import Network
from rtl_jax.train.recipe import Recipe
from tests.lab.my_images.pictures import photos


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


@pytest.mark.slow
@pytest.mark.parametrize("task", ["finetune", "sweep", "pretrain"])
def test_renamed_folders_rename_a_finished_networks_classes(task: str, tmp_path: Path) -> None:
    root, workdir = tmp_path / "photos", tmp_path / "work"
    halves = [photos(root / "train", {"blue": 4, "green": 6}), root / "test"]
    for colour, first in (("blue", 2), ("green", 4)):
        (root / "test" / colour).mkdir(parents=True)
        for picture in sorted((root / "train" / colour).iterdir())[first:]:
            picture.rename(root / "test" / colour / picture.name)
    experiment = Experiment(
        task=task,
        source=Source("random", "resnet50", "small", stage_sizes=(1, 1), stage_widths=(4, 6)),
        target=Target(f"folder:{root}", image_size=8),
        transfer=Recipe(blocks=0, epochs=1, batch_size=4),
        pretraining=Pretraining(epochs=1, batch_size=4, num_attacked=0),
        sweep=Sweep(seeds=1, keep_networks=True),
    )

    def network() -> Network:
        tasks.run(experiment, workdir)
        (found,) = workdir.glob("runs/*/network")
        return Network.load(found)

    former = network()
    for half, (old, new) in itertools.product(halves, (("green", "cats"), ("blue", "ants"))):
        (half / old).rename(half / new)
    renamed = network()
    assert former.class_names == ("blue", "green") and renamed.class_names == ("ants", "cats")
    assert renamed.digest == former.digest
