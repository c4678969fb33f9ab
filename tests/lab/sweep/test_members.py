"""Seeds in parallel compared with each alone, and features in every kind of storage."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from rtl_jax.data.augmentation import PRESETS
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment, Source, Target
from rtl_jax.lab.finetune.job import Job, assemble, load_inputs
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.runtime import resources
from rtl_jax.train import feature_cache as store_module
from rtl_jax.train.feature_cache import Room
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.trainer import FeatureCaches, begin, caches_for
from tests.processes import on_devices

pytestmark = pytest.mark.slow

SEEDS = (20_000_000, 20_100_000, 20_200_000)
SOURCE = Source("random", "resnet50", "small", stage_sizes=(1, 1), stage_widths=(4, 6))


def experiment(augmentation: str = "none", num_images: int = 40, **transfer) -> Experiment:
    settings = {"blocks": 0, "epochs": 3, "batch_size": 40, "eval_every": 2, "learning_rate": 0.01}
    return Experiment(
        task="sweep",
        source=SOURCE,
        target=Target("digits", image_size=8, num_images=num_images, num_test_images=50),
        augmentation=PRESETS[augmentation],
        transfer=Recipe(**{**settings, "eval_batch_size": 32, **transfer}),
        seed=SEEDS[0],
    )


def jobs_of(settings: Experiment, seeds: Sequence[int] = SEEDS) -> list[Job]:
    """Make one fine-tuning per seed, all from the network that the first seed draws."""
    pair = load_inputs(settings)
    return [assemble(dataclasses.replace(settings, seed=seed), pair) for seed in seeds]


def losses(jobs: Sequence[Job], caches: FeatureCaches | None = None) -> np.ndarray:
    """Return training losses and the last test loss and accuracy of each seed, [S, epochs + 2]."""
    training, state = begin(jobs, caches)
    columns = []
    for epoch in range(1, jobs[0].program.epochs + 1):
        state, sums = training.epoch(state, epoch)
        columns.append([seed["loss"] for seed in sums.each()])
    tested = training.evaluate(state).each()
    columns += [[seed[name] for seed in tested] for name in ("loss", "accuracy")]
    return np.array(columns).T


@pytest.mark.parametrize(
    ("mode", "augmentation", "batch_size"),
    [("batch", "paper", 40), ("source", "none", 24), ("adapt", "none", 40)],  # 24: a partial one
)
def test_a_member_equals_its_seed_alone(mode: str, augmentation: str, batch_size: int):
    settings = experiment(augmentation, frozen_batch_norm=mode, batch_size=batch_size, blocks=1)
    jobs = jobs_of(settings)
    together = losses(jobs)
    assert len({tuple(row) for row in together.tolist()}) == len(SEEDS)
    for row, job in zip(together, jobs, strict=True):
        np.testing.assert_allclose(row, losses([job])[0], rtol=1e-4)


def test_seeds_divided_over_devices_are_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.sweep.divided", "source"],
        cwd=Path(__file__).parents[3],
        env=on_devices(2),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["devices"] == [2]
    seeds = (*SEEDS, 20_300_000)
    wanted = losses(jobs_of(experiment(frozen_batch_norm="source", blocks=1), seeds))
    np.testing.assert_allclose(found["losses"], wanted, rtol=1e-4)


def test_a_member_equals_the_finetune_task(tmp_path: Path):
    """Random sources differ by seed, so the frozen part has a seed axis, too."""
    settings = experiment(frozen_batch_norm="source", blocks=1)
    pairs = [load_inputs(dataclasses.replace(settings, seed=seed)) for seed in SEEDS[:2]]
    pairs[1] = dataclasses.replace(pairs[1], dataset=pairs[0].dataset)
    jobs = [
        assemble(dataclasses.replace(settings, seed=seed), pair)
        for seed, pair in zip(SEEDS, pairs, strict=False)
    ]
    together = losses(jobs)
    for row, job in zip(together[1:], jobs[1:], strict=True):
        alone = dataclasses.replace(job.experiment, task="finetune")
        rows = run_finetune(alone, tmp_path)
        np.testing.assert_allclose(row[[0, 2]], rows["train_loss"], rtol=1e-4)
        np.testing.assert_allclose(row[-2], rows["loss"].iloc[-1], rtol=1e-4)
        assert row[-1] == pytest.approx(rows["accuracy"].iloc[-1], abs=1e-9)


@pytest.mark.parametrize(
    ("mode", "place"),
    [("source", "host"), ("source", "disk"), ("source", "none"), ("adapt", "disk")],
)
def test_features_are_the_same_wherever_they_are_kept(mode: str, place: str):
    one = losses(jobs_of(experiment(frozen_batch_norm=mode)))
    other = losses(jobs_of(experiment(frozen_batch_norm=mode, feature_store=place)))
    # The same numbers from another program, where features are not kept.
    np.testing.assert_allclose(one, other, rtol=1e-3 if place == "none" else 1e-6)


def test_sizes_and_seeds_share_the_union_of_their_images():
    small = jobs_of(experiment(frozen_batch_norm="source", num_images=20))
    large = jobs_of(experiment(frozen_batch_norm="source", num_images=40))
    caches = caches_for([*small, *large])
    union = set().union(*(job.train_indices.tolist() for job in [*small, *large]))
    assert len(caches.train.labels) == len(union) < sum(map(len, (j.train_indices for j in large)))
    for jobs in (small, large):
        np.testing.assert_allclose(losses(jobs, caches), losses(jobs), rtol=1e-5)
        training, _ = begin(jobs, caches)
        labels = caches.train.labels[training.feed.rows]
        np.testing.assert_array_equal(labels, [job.training_images.labels for job in jobs])


def test_frozen_weights_are_there_once_and_trained_ones_for_each_seed():
    jobs = jobs_of(experiment(frozen_batch_norm="source", blocks=1))
    training, state = begin(jobs)
    source = jobs[0].source.params
    for path, leaf in training.frozen.params.items():
        assert leaf.shape == source[path].shape, path
    trained = {path: leaf for path, leaf in state.params.items() if jax.tree.leaves(leaf)}
    assert trained.keys() | training.frozen.params.keys() == source.keys()
    assert {len(leaf) for leaf in trained.values()} == {len(SEEDS)}


def test_half_the_bits_keep_three_digits():
    full = losses(jobs_of(experiment(frozen_batch_norm="source")))
    jobs = jobs_of(experiment(frozen_batch_norm="source", feature_bits=16))
    caches = caches_for(jobs)
    assert caches.train.data.dtype == caches.test.data.dtype == np.float16
    np.testing.assert_allclose(losses(jobs, caches)[:, :-1], full[:, :-1], rtol=5e-3)


def test_features_too_large_for_half_the_bits_are_refused(monkeypatch: pytest.MonkeyPatch):
    huge = iter([jax.numpy.full((2, 3), 7e4)])
    with pytest.raises(UserError, match=r"feature_bits: .*65,504.*set it to 32"):
        store_module._fill(huge, (2, 3), np.dtype(np.float16), "host")


def test_views_are_drawn_once_and_shared_by_seeds():
    settings = experiment("paper", frozen_batch_norm="source", views=3)
    jobs = jobs_of(settings)
    caches = caches_for(jobs)
    total = len(caches.train.labels)
    assert caches.train.data.shape[0] == 3 * total
    pairs = np.asarray(caches.train.data).reshape(3, total, -1)
    assert not np.allclose(pairs[0], pairs[1])
    rows = np.arange(6).reshape(2, 3)
    taken = caches.train.take(rows, np.array([[0, 1, 2], [2, 1, 0]]))
    np.testing.assert_array_equal(taken[1, 0].ravel(), pairs[2, 3])
    together = losses(jobs, caches)
    np.testing.assert_allclose(together[0], losses(jobs[:1])[0], rtol=1e-4)


def test_views_are_refused_where_images_would_be_augmented_anew(monkeypatch: pytest.MonkeyPatch):
    stored = {"frozen_batch_norm": "source", "views": 3}
    for name, value in (
        ("feature_store", "none"),
        ("frozen_batch_norm", "batch"),
        ("blocks", None),
        ("perturbation", "gaussian"),
    ):
        with pytest.raises(UserError, match=f"transfer.views: expected none with transfer.{name}="):
            Recipe(**{**stored, name: value})
    jobs = jobs_of(experiment("paper", feature_cache_mib=0, **stored))
    monkeypatch.setattr(resources, "host_free", lambda: 0)
    monkeypatch.setattr(resources, "disk_free", lambda directory: 0)
    with pytest.raises(UserError, match="no room for the features of 3 views of .* images"):
        caches_for(jobs)


def test_features_go_to_the_nearest_place_with_room(monkeypatch: pytest.MonkeyPatch):
    room = Room.of(Recipe(feature_cache_mib=1))
    monkeypatch.setattr(resources, "host_free", lambda: 4 << 20)
    monkeypatch.setattr(resources, "disk_free", lambda directory: 8 << 20)
    assert room.place(600 << 10) == "device"
    assert room.place(600 << 10) == "host"  # the device's is partly taken
    assert [room.place(size << 20) for size in (2, 3, 4, 5)] == ["host", "disk", "disk", None]
    assert Room.of(Recipe(feature_store="none")).place(1) is None
    assert Room.of(Recipe(feature_store="disk")).place(1) == "disk"


def test_a_full_disk_is_said_before_it_is_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resources, "disk_free", lambda directory: 10)
    with pytest.raises(UserError, match=r"feature_store: features take 24 bytes on disk"):
        store_module._host_array((2, 3), np.dtype(np.float32), "disk")


def test_classes_that_weigh_alike_are_those_of_each_seeds_images():
    jobs = jobs_of(experiment(frozen_batch_norm="source", class_weights="balanced"))
    training, _ = begin(jobs)
    for weights, job in zip(training.hyper.class_weights, jobs, strict=True):
        labels = job.training_images.labels
        shares = [weights[label] * (labels == label).sum() for label in range(10)]
        np.testing.assert_allclose(shares, len(labels) / 10, rtol=1e-5)
    plain = losses(jobs_of(experiment(frozen_batch_norm="source")))
    assert not np.allclose(losses(jobs)[:, 1:], plain[:, 1:])
