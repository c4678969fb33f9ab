"""Batches that exceed the memory are rejected before they reach a network; others are not."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rtl_jax.errors import UserError
from rtl_jax.lab import tasks
from rtl_jax.lab.config import Experiment, freeze
from rtl_jax.lab.finetune.job import prepare
from rtl_jax.lab.memory import Batch, Use, image_bytes, require_memory
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import bind, definition, initialize
from rtl_jax.models.network import Network
from rtl_jax.runtime import limits

TINY = ResNetArchitecture(
    "tiny", "bottleneck", (1, 1), (4, 8), stem_width=8, stem_kernel=3, stem_stride=1,
    stem_pool=False, num_classes=10,
)  # fmt: skip
FLOAT = jnp.dtype(jnp.float32)


def measured(use: Use, number: int, pixels: int) -> int:
    """Return the memory that XLA plans for a batch: temporaries, arguments and results."""
    network = definition(TINY)
    params, batch_stats = initialize(TINY, jax.random.key(0))
    images = jnp.zeros((number, pixels, pixels, 3))

    def loss(params: dict, images: jax.Array) -> jax.Array:
        bound = bind(network, params, batch_stats)
        logits = bound.suffix(bound.prefix(images, -1), -1, train=use == "train")
        return (logits**2).sum()

    of = {"look": loss, "attack": jax.grad(loss, 1), "train": jax.grad(loss)}[use]
    plan = jax.jit(of).lower(params, images).compile().memory_analysis()
    return plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes


@pytest.mark.parametrize("use", ["look", "attack", "train"])
def test_an_estimate_is_less_than_xla_takes_but_not_by_much(use: Use) -> None:
    estimate = 16 * image_bytes(TINY, 64, use, -1, FLOAT)
    assert estimate <= measured(use, 16, 64) <= 12 * estimate


def test_it_grows_with_pixels_batches_and_what_trains() -> None:
    one = image_bytes(TINY, 32, "train", -1, FLOAT)
    assert image_bytes(TINY, 64, "train", -1, FLOAT) == pytest.approx(4 * one, rel=0.01)
    assert image_bytes(TINY, 32, "train", 1, FLOAT) < one
    assert image_bytes(TINY, 32, "look", -1, FLOAT) < one
    batch = Batch("transfer.batch_size", 10, "train")
    require_memory(TINY, 32, batch, free=10 * one)
    said = r"transfer.batch_size: 10 images of 32 px .* lower transfer.batch_size or target.image"
    with pytest.raises(UserError, match=said):
        require_memory(TINY, 32, batch, free=10 * one - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    for name in ("dark", "light"):
        (place / name).mkdir()
        for index in range(3):
            pixels = np.full((8, 8, 3), 9 * index + 100 * (name == "light"), np.uint8)
            Image.fromarray(pixels).save(place / name / f"{index}.png")
    return place


# For each task its settings, and the one that is named.
TASKS = {
    "finetune": ({"transfer": {"blocks": 1}}, r"transfer\.batch_size"),
    "sweep": ({"sweep": {"blocks": (1,)}}, r"transfer\.batch_size"),
    "attack": ({}, r"attack\.batch_size"),
    "pretrain": ({"pretraining": {"batch_size": 64}}, r"pretraining\.batch_size"),
    "influence": ({"transfer": {"blocks": 1}}, r"transfer\.batch_size"),
    "visualize": ({}, r"visualize\.num_shown"),
    "predict": ({"predict": {"images": "{folder}"}}, r"predict\.batch_size"),
    "my_images": (
        {
            "target": {"dataset": "folder:{folder}", "folds": 2},
            "transfer": {"frozen_batch_norm": "source"},
            "sweep": {"sources": ("{network}",), "blocks": (0,)},
        },
        r"transfer\.(eval_)?batch_size",
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_names_the_setting(
    task: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tmp_path / "network"
    Network(TINY, *initialize(TINY, jax.random.key(0)), {}).save(network)
    groups, named = TASKS[task]
    filled = {
        group: {
            name: tuple(one.format(network=network) for one in value)
            if isinstance(value, tuple) and name == "sources"
            else value.format(folder=folder) if isinstance(value, str) else value
            for name, value in settings.items()
        }
        for group, settings in groups.items()
    }  # fmt: skip
    target = {"dataset": "digits", "image_size": 16, "num_images": 64, "num_test_images": 20}
    own = {"image_size": 16, **filled["target"]} if "target" in filled else target
    experiment = {"task": task, "source": {"checkpoint": str(network)}, **filled, "target": own}
    monkeypatch.setattr("rtl_jax.runtime.resources.device_free", lambda: 1000)
    with pytest.raises(UserError, match=f"^{named}: .* 0.0 GiB are free: lower"):
        tasks.run(freeze(experiment), tmp_path / "work")
    assert not (tmp_path / "work" / "rows").exists()


def test_a_batch_has_no_more_images_than_the_training_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Network(TINY, *initialize(TINY, jax.random.key(0)), {}).save(tmp_path / "network")
    groups = {
        "source": {"checkpoint": str(tmp_path / "network")},
        "target": {"image_size": 16, "num_images": 20, "num_test_images": 10},
        "transfer": {"blocks": None, "batch_size": 128},
    }
    one = image_bytes(TINY, 16, "train", -1, FLOAT)
    monkeypatch.setattr("rtl_jax.runtime.resources.device_free", lambda: 20 * one)
    prepare(freeze(groups))
    monkeypatch.setattr("rtl_jax.runtime.resources.device_free", lambda: 20 * one - 1)
    with pytest.raises(UserError, match="batch_size: 20 images of 16 px"):
        prepare(freeze(groups))


def test_settings_within_their_bounds_that_take_terabytes() -> None:
    batch = Batch("transfer.batch_size", limits.BATCH_SIZE, "train")
    with pytest.raises(UserError, match=r"65,536 images of 4096 px take at least \d+,\d{3}"):
        require_memory(TINY, limits.IMAGE_SIZE, batch)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9")],
)
def test_memory_that_runs_out_all_the_same(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("rtl_jax.lab.finetune.task.run_finetune", fail)
    with pytest.raises(UserError, match="memory has run out .* lower the batch sizes"):
        tasks.run(Experiment(), tmp_path)
