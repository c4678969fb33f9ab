"""JAX's switches, as set in a shell, change no results of tasks or of the Python interface."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import rtl_jax as rtl
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.lab.config import Attack, Experiment, Source, Target
from rtl_jax.lab.tasks import run
from rtl_jax.train.recipe import Recipe

pytestmark = pytest.mark.slow

SHAPE = {"arch": "resnet18", "stem": "small", "stage_sizes": (1, 1), "stage_widths": (4, 8)}
TRAINING = Experiment(
    source=Source("random", **SHAPE),
    target=Target("digits", image_size=8, num_images=30, num_test_images=40),
    augmentation=PRESETS["paper"],  # which draws
    transfer=Recipe(blocks=1, head="uniform", epochs=2, batch_size=12, learning_rate=0.05),
)
SWITCHES: dict[str, dict[str, object]] = {
    "64 bits": {"jax_enable_x64": True},
    "random numbers and promotion": {
        "jax_default_prng_impl": "rbg",
        "jax_threefry_partitionable": False,
        "jax_random_seed_offset": 7,
        "jax_numpy_dtype_promotion": "strict",
        "jax_numpy_rank_promotion": "raise",
    },
}


def everything(workdir: Path) -> list[pd.DataFrame]:
    """Return the rows of a fine-tuning, and of a random attack on its network."""
    tuned = run(TRAINING, workdir / "tuned")
    settings = Attack(norm="l2", eps=(0.0, 0.5), steps=2, random_start=True, num_shown=0)
    attack = dataclasses.replace(
        TRAINING, task="attack", source=Source(str(workdir / "tuned")), attack=settings
    )
    return [tuned, run(attack, workdir / "attack")]


def through_the_door() -> list[np.ndarray]:
    """Return a fine-tuned network's weights, predictions, attack and influence."""
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (12, 8, 8, 3), np.uint8), [0, 1, 2] * 4
    network = rtl.finetune(rtl.load("random", **SHAPE), images, labels, epochs=2, seeds=3)
    new = draw.uniform(size=(5, 8, 8, 3)).astype("float32")
    found = rtl.attack(network, new, [0, 1, 2, 0, 1], 0.3, rtl.PGD("l2", random_start=True))
    scores = rtl.influence(network, (images, labels), (images[:2], labels[:2]))
    return [*network.head, network.predict_proba(new), found.images, found.losses, scores]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[list, list]:
    return everything(tmp_path_factory.mktemp("usual")), through_the_door()


@pytest.fixture(params=SWITCHES)
def switched(request: pytest.FixtureRequest) -> Iterator[None]:
    changed = SWITCHES[request.param]
    before = {name: getattr(jax.config, name) for name in changed}
    for name, value in changed.items():
        assert before[name] != value
        jax.config.update(name, value)
    yield
    for name, value in changed.items():
        assert getattr(jax.config, name) == value  # the user's choice is theirs outside
        jax.config.update(name, before[name])


def test_no_switch_changes_a_number(switched: None, usual: tuple, tmp_path: Path) -> None:
    for mine, theirs, own in zip(
        everything(tmp_path),
        usual[0],
        (["seconds", "time"], ["seconds", "time", "config", "source", "run"]),  # which name a path
        strict=True,
    ):
        pd.testing.assert_frame_equal(
            mine.drop(columns=own), theirs.drop(columns=own), check_exact=True
        )
    for mine, theirs in zip(through_the_door(), usual[1], strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
