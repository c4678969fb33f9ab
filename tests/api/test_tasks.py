"""Functions' results equal those of the tasks, bit for bit."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rtl_jax as rtl
from rtl_jax.data.subset import draw_subset, draw_test_subset
from rtl_jax.lab.attack.task import run_attack
from rtl_jax.lab.config import Attack, Experiment, Influence, Source, Target
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.lab.influence.task import run_influence
from rtl_jax.models.storage import networks_in
from tests.api.settings import RECIPE, SEED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, source: rtl.Network) -> tuple[Path, Path]:
    """The work directory of a fine-tuning on 40 digits, and its network."""
    workdir = tmp_path_factory.mktemp("door")
    source.save(workdir / "source")
    run_finetune(experiment(workdir), workdir)
    (place,) = networks_in(workdir)
    return workdir, Path(place)


def experiment(workdir: Path, **changes: object) -> Experiment:
    return dataclasses.replace(
        Experiment(
            source=Source(str(workdir / "source")),
            target=Target("digits", image_size=8, num_images=40, num_test_images=30),
            augmentation=rtl.Augmentation(),
            transfer=RECIPE,
            seed=SEED,
        ),
        **changes,
    )


def test_a_fine_tuning_equals_the_task(digits, source, trained) -> None:
    drawn = digits.train.take(draw_subset(digits.train.labels, 40, SEED, 10))
    network = rtl.finetune(source, drawn.images, drawn.labels, seeds=SEED, recipe=RECIPE)
    other = rtl.Network.load(trained[1])
    for mine, its in ((network.params, other.params), (network.batch_stats, other.batch_stats)):
        assert mine.keys() == its.keys()
        for path, leaf in mine.items():
            np.testing.assert_array_equal(leaf, its[path], err_msg=path)
    assert network.class_names == other.class_names == tuple("0123456789")
    assert network.image_size == other.image_size == 8
    assert network.training_images == other.training_images and len(network.training_images) == 40


def test_an_attack_equals_the_task(digits, trained) -> None:
    workdir, place = trained
    settings = Attack(norm="l2", eps=(0.5,), steps=4, batch_size=16)
    asked = experiment(workdir, task="attack", source=Source(str(place)), attack=settings)
    (row,) = run_attack(asked, workdir / "attack").itertuples()
    tested = digits.test.take(draw_test_subset(digits.test.labels, 30, 10))
    found = rtl.attack(
        rtl.load(str(place)), tested.images, tested.labels, 0.5, rtl.PGD("l2", steps=4),
        batch_size=16,
    )  # fmt: skip
    assert row.accuracy == pytest.approx(100 * float(found.robust_accuracy), abs=1e-9)
    assert row.loss == float(np.asarray(found.losses, np.float32).mean())
    assert found.images.shape == (30, 8, 8, 3)


def test_influence_equals_the_task(digits, trained) -> None:
    workdir, place = trained
    settings = Influence(run=str(place), damping=0.01, perturb=2)
    rows = run_influence(experiment(workdir, task="influence", influence=settings), workdir)
    (listed,) = workdir.glob(f"runs/{rows['run'].iloc[0]}/perturbed.csv")
    scores = np.load(next((workdir / "runs" / rows["run"].iloc[0]).rglob("scores.npy")))
    drawn = digits.train.take(draw_subset(digits.train.labels, 40, SEED, 10))
    tested = digits.test.take(draw_test_subset(digits.test.labels, 30, 10))
    found = rtl.influence(
        rtl.load(str(place)),
        (drawn.images, drawn.labels),
        (tested.images, tested.labels),
        damping=0.01,
    )
    np.testing.assert_array_equal(found, scores)
    tests = [int(np.flatnonzero(tested.labels == label)[0]) for label in (0, 1)]
    changed = rtl.perturb_training(
        rtl.load(str(place)),
        (drawn.images, drawn.labels),
        (tested.images, tested.labels),
        [(scores[row].argmax(), row) for row in tests],
        0.05,
        damping=0.01,
    )
    listed = pd.read_csv(listed)
    np.testing.assert_allclose(changed.changes, listed["predicted_change"], rtol=1e-3)
    assert changed.images.shape == (2, 8, 8, 3)
    with pytest.raises(rtl.UserError, match=r"pairs: expected rows .* 40 training and 30 test"):
        data = drawn.images, drawn.labels
        tested = tested.images, tested.labels
        rtl.perturb_training(rtl.load(str(place)), data, tested, [(40, 0)], 0.5)
