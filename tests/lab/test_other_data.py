"""Every task with a network made for other data: an error, or a message about the differences.

The network knows the classes cat and dog, images of 16 px, and its training images. No task trains
here: it is stopped where training would begin, and its inputs are inspected.
"""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rtl_jax.data import load_dataset
from rtl_jax.errors import UserError
from rtl_jax.lab import tasks
from rtl_jax.lab.config import freeze
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from rtl_jax.runtime.digest import image_digests

TINY = ResNetArchitecture(
    "tiny", "bottleneck", (1, 1), (4, 8), stem_width=8, stem_kernel=3, stem_stride=1,
    stem_pool=False, num_classes=2,
)  # fmt: skip
SIZE, EACH = 16, 4

# Where a task begins to train or to measure; what it is handed there has what is asked for.
BEGINS = {
    "finetune": "finetune.task._train",
    "sweep": "sweep.cells._run",
    "attack": "attack.task._rows",
    "pretrain": "pretrain.task._train",
    "influence": "finetune.task._train",
    "visualize": "visualize.task._gradients",
    "choose": "choose.task._rank",
    "my_images": "sweep.cells._run",
}
TRAINING = ("finetune", "sweep", "pretrain", "influence", "my_images")
MEASURING = ("attack", "visualize")


class Begun(Exception):  # noqa: N818 - not a fault
    """A task has reached the point where its computation begins."""

    def __init__(self, *arguments: Any):
        self.given = arguments


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`known` has cats and dogs, `renamed` the same pictures under other names."""
    place, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for half in ("train", "test"):
        for name, other in (("cat", "zebra"), ("dog", "bear")):
            for index in range(EACH):
                pixels = draw.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
                for folder in (f"known/{half}/{name}", f"renamed/{half}/{other}"):
                    (place / folder).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(place / folder / f"{index}.png")
    return place


@pytest.fixture
def network(photos: Path, tmp_path: Path) -> Path:
    """A network trained on the training images, and on two of the current test images."""
    dataset = load_dataset(f"folder:{photos / 'known'}", data_dir=None, image_size=SIZE)
    seen = image_digests([*dataset.train.images, *dataset.test.images[:2]])
    known = {"class_names": ["cat", "dog"], "image_size": SIZE, "training_images": seen}
    made = Network(TINY, *initialize(TINY, jax.random.key(0)), {"kind": "fine-tuned", **known})
    made.save(tmp_path / "network")
    return tmp_path / "network"


def begin(
    task: str, network: Path, folder: Path, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, ...]:
    """Run a task on a folder until its computation begins; return the inputs of the latter."""
    if task == "my_images":  # which gives its own folder's pictures their halves
        undivided = network.parent / "undivided"
        for half in ("train", "test"):
            shutil.copytree(
                folder / half, undivided, dirs_exist_ok=True,
                copy_function=lambda one, to, half=half: shutil.copy(one, f"{to[:-4]}{half}.png"),
            )  # fmt: skip
        folder = undivided
    target = {"dataset": f"folder:{folder}", "image_size": pixels, "num_test_images": 2 * EACH}
    if task == "my_images":
        target |= {"folds": 2, "num_test_images": None}
    experiment = {
        "task": task,
        "source": {"checkpoint": str(network)},
        "target": target,
        "transfer": {"blocks": 1, "epochs": 1, "batch_size": 4, "frozen_batch_norm": "source"},
        "sweep": {"sources": (str(network),), "blocks": (1,), "seeds": 1},
        "pretraining": {"epochs": 1, "batch_size": 4},
        "visualize": {"sources": (str(network),), "show": "gradients", "num_shown": 2},
    }

    def stop(*arguments: Any) -> None:
        raise Begun(*arguments)

    monkeypatch.setattr(f"rtl_jax.lab.{BEGINS[task]}", stop)
    with pytest.raises(Begun) as begun:
        tasks.run(freeze(experiment), network.parent / "work")
    return begun.value.given


@pytest.mark.parametrize("task", BEGINS)
def test_another_image_size(
    task: str, network: Path, photos: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    begin(task, network, photos / "known", 24, monkeypatch)
    said = capsys.readouterr().out
    if task in MEASURING:
        assert f"{network}: images are taken at 16 px, as in training, not at target." in said
    else:
        assert f"{network} was trained at 16 px, and images are taken at 24 px" in said


@pytest.mark.parametrize("task", BEGINS)
def test_images_that_it_was_trained_on(
    task: str, network: Path, photos: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    begin(task, network, photos / "known", SIZE, monkeypatch)
    said = capsys.readouterr().out
    # In cross-validation every picture is tested.
    number, total = (2 * EACH + 2, 4 * EACH) if task == "my_images" else (2, 2 * EACH)
    if task == "choose":  # which leaves one training image out after the other
        number = total
    assert f"was trained on {number} of the {total} test images" in said
    assert "px, and images are taken" not in said and "not at target" not in said


@pytest.mark.parametrize("task", TRAINING)
def test_a_training_gives_other_classes_a_new_head(
    task: str, network: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if their number is the same."""
    first = begin(task, network, photos / "renamed", SIZE, monkeypatch)[0]
    job = first[0] if isinstance(first, list) else first
    assert tuple(job.class_names) == ("bear", "zebra")
    old, new = Network.load(network).head, job.network.head
    assert new.kernel.shape == old.kernel.shape and not np.array_equal(new.kernel, old.kernel)


@pytest.mark.parametrize("task", MEASURING)
def test_a_measurement_refuses_other_classes(
    task: str, network: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="has no classes bear, zebra, which"):
        begin(task, network, photos / "renamed", SIZE, monkeypatch)


def test_a_training_that_goes_on_keeps_its_head(
    network: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin("pretrain", network, photos / "known", SIZE, monkeypatch)[0]
    assert np.array_equal(job.network.head.kernel, Network.load(network).head.kernel)


def test_predict_takes_its_own_size_and_classes_and_counts_training_images(
    network: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = {
        "task": "predict",
        "source": {"checkpoint": str(network)},
        "target": {"image_size": 24},
        "predict": {"images": str(photos / "renamed" / "test"), "batch_size": 4},
    }
    tasks.run(freeze(experiment), network.parent / "work")
    said = capsys.readouterr().out
    assert f"{2 * EACH} images at 16 px" in said
    assert "2 of the images are training images of this network" in said
    table = pd.read_csv(network.parent / "work" / "predictions.csv")
    assert set(table["class_1"]) <= {"cat", "dog"}


def test_no_task_is_left_out() -> None:
    from rtl_jax.lab.config import GROUPS

    assert {*BEGINS, "predict", "report"} == {*GROUPS}
