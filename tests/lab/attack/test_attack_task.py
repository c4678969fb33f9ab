"""The task `attack`: rows, figures, batches that survive a kill, and users' mistakes."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from rtl_jax.attacks import PGD, attack
from rtl_jax.attacks import batch_cache as store
from rtl_jax.data import draw_test_subset, load_dataset
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.attack import task as robustness
from rtl_jax.lab.attack.task import run_attack
from rtl_jax.lab.config import Attack, Experiment, Source, Sweep, Target
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.lab.results import last_epochs
from rtl_jax.lab.statistics import wilson_interval
from rtl_jax.lab.sweep.task import run_sweep
from rtl_jax.lab.tasks import run
from rtl_jax.models.network import Network
from rtl_jax.models.sources import load_source
from rtl_jax.smoothing import Smoothing, certify
from rtl_jax.train.recipe import Recipe

pytestmark = pytest.mark.slow

TARGET = Target("digits", image_size=8, num_images=200, num_test_images=50)
EPS = (0.0, 0.02, 0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a small fine-tuning on the digits."""
    workdir = tmp_path_factory.mktemp("trained")
    run_finetune(
        Experiment(
            source=Source("random", "resnet18", "small", (1, 1), (8, 16)),
            target=TARGET,
            augmentation=PRESETS["none"],
            transfer=Recipe(blocks=None, head="uniform", epochs=12, batch_size=40),
        ),
        workdir,
    )
    return workdir


def experiment(trained: Path, **settings) -> Experiment:
    chosen = {"eps": EPS, "steps": 4, "batch_size": 20, "num_shown": 3, **settings}
    return Experiment(
        task="attack", source=Source(str(trained)), target=TARGET, attack=Attack(**chosen)
    )


def measured(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=["seconds", "time", "run", "config"])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rows_are_what_the_library_finds(trained: Path, tmp_path: Path, norm: str):
    rows = run_attack(experiment(trained, norm=norm), tmp_path)
    (found,) = trained.glob("runs/*/network")
    network = Network.load(found)
    dataset = load_dataset("digits", data_dir=None, image_size=8)
    test = dataset.test.take(draw_test_subset(dataset.test.labels, 50, 10))
    logits_fn = Network(
        network.architecture, *jax.tree.map(jnp.asarray, (network.params, network.batch_stats))
    ).logits_fn()
    for eps, row in zip(EPS, rows.itertuples(), strict=True):
        images, labels = prepare(test.images, 8), jnp.asarray(test.labels)
        one = attack(logits_fn, images, labels, eps, PGD(norm, steps=4))
        assert (row.eps, row.norm, row.method) == (eps, norm, "pgd")
        assert row.accuracy == pytest.approx(100 * float(one.robust_accuracy))
        assert row.loss == pytest.approx(float(one.losses.mean()), rel=1e-3)
        assert row.num_test_images == 50 and pd.isna(row.epoch) and pd.isna(row.blocks)
    tuned = results.read_rows(trained)
    assert rows["accuracy"].iloc[0] == pytest.approx(tuned["accuracy"].iloc[-1])
    assert rows["accuracy"].iloc[0] > 50 and rows["accuracy"].is_monotonic_decreasing


def test_certificates_are_the_library_s(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """For any batch size; the table labels them as certificates."""
    settings = {"norm": "l2", "method": "smoothing", "sigma": 0.3, "samples": 200}
    rows = run(experiment(trained, eps=(0.0, 0.3, 1.0), **settings), tmp_path)
    assert "certified accuracy" in capsys.readouterr().out
    other = run_attack(
        experiment(trained, eps=(0.0, 0.3, 1.0), batch_size=50, **settings), tmp_path / "other"
    )
    assert rows["accuracy"].tolist() == other["accuracy"].tolist()
    (found,) = trained.glob("runs/*/network")
    dataset = load_dataset("digits", data_dir=None, image_size=8)
    test = dataset.test.take(draw_test_subset(dataset.test.labels, 50, 10))
    certified = certify(
        Network.load(found).logits_fn(),
        np.asarray(prepare(test.images, 8)),
        test.labels,
        Smoothing(0.3, samples=200),
        jax.random.key(Experiment().seed),
    )
    for row in rows.itertuples():
        assert (row.method, row.norm) == ("smoothing", "l2") and pd.isna(row.loss)
        assert row.accuracy == pytest.approx(100 * certified.certified_accuracy(row.eps))
    # A radius that 200 copies cannot certify.
    assert rows["accuracy"].iloc[0] > rows["accuracy"].iloc[1] > 0 == rows["accuracy"].iloc[2]
    assert [path.name for path in tmp_path.glob("runs/*/*")] == ["curve.png"]


@pytest.mark.parametrize("changes", [{}, {"method": "autoattack", "attacks": ("apgd-ce",)}])
def test_white_pixels_may_be_shrunk(tmp_path: Path, changes: dict):
    """From 28 to 16 px, the weights of white pixels sum to 1 + 2e-7."""
    assert float(prepare(np.full((1, 28, 28, 3), 255, np.uint8), 16).max()) > 1
    images = np.full((20, 28, 28, 3), 255, np.uint8)
    images[:, 9:18, 9:18] = np.random.default_rng(0).integers(0, 200, (20, 1, 1, 3))
    pixels = {"x_train": images, "x_test": 255 - (255 - images) // 2}
    labels = {"y_train": np.arange(20) % 2, "y_test": np.arange(20) % 2}
    np.savez(tmp_path / "white.npz", **pixels, **labels)
    tuning = Experiment(
        source=Source("random", "resnet18", "small", (1, 1), (8, 16)),
        target=Target(f"npz:{tmp_path / 'white.npz'}", image_size=16),
        augmentation=PRESETS["none"],
        transfer=Recipe(blocks=0, head="uniform", epochs=1, batch_size=10, num_attacked=5),
        attack=Attack(eps=(0.1,), steps=2, batch_size=10, **changes),
    )
    run_finetune(tuning, tmp_path / "tuned")
    assert len(results.read_rows(tmp_path / "tuned").dropna(subset="eps")) == 1
    asked = dataclasses.replace(tuning, task="attack", source=Source(str(tmp_path / "tuned")))
    assert run_attack(asked, tmp_path / "attacked")["loss"].notna().all()


def test_figures_are_left_and_batches_are_not(trained: Path, tmp_path: Path):
    run_attack(experiment(trained), tmp_path)
    (directory,) = tmp_path.glob("runs/*")
    assert {path.name for path in directory.iterdir()} == {"curve.png", "images.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in directory.iterdir())
    run_attack(experiment(trained, num_shown=0), tmp_path / "none")
    assert [path.name for path in (tmp_path / "none").glob("runs/*/*")] == ["curve.png"]


def test_the_batch_size_changes_nothing(trained: Path, tmp_path: Path):
    for random_start in (False, True):
        one, other = (
            run_attack(experiment(trained, batch_size=size, random_start=random_start), tmp_path)
            for size in (20, 50)
        )
        pd.testing.assert_frame_equal(measured(one), measured(other), rtol=1e-3)


class Killed(BaseException):
    """Simulates a kill: no code catches this exception."""


def test_a_killed_attack_goes_on_and_ends_the_same(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = experiment(trained)
    whole = run_attack(settings, tmp_path / "whole")
    keep, attacked = store.keep, []

    def keep_and_die(path, arrays):
        keep(path, arrays)
        attacked.append(path.name)
        if len(attacked) == 2:
            raise Killed

    monkeypatch.setattr(store, "keep", keep_and_die)
    with pytest.raises(Killed):
        run_attack(settings, tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("rows/*"))
    rows = run_attack(settings, tmp_path / "killed")
    assert attacked == ["00000000.npz", "00000020.npz", "00000040.npz"]  # none of them twice
    pd.testing.assert_frame_equal(measured(rows), measured(whole), check_exact=True)
    again = run_attack(settings, tmp_path / "killed")
    assert len(attacked) == 3
    pd.testing.assert_frame_equal(rows, again)


def test_a_damaged_batch_is_named(trained: Path, tmp_path: Path, monkeypatch):
    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(robustness, "draw_curve", die)
    with pytest.raises(Killed):
        run_attack(experiment(trained), tmp_path)
    monkeypatch.undo()
    first = min(tmp_path.glob("runs/*/batches/*"))
    first.write_bytes(first.read_bytes()[:100])
    with pytest.raises(UserError, match=f"{first.name} is damaged.*remove it"):
        run_attack(experiment(trained), tmp_path)
    first.unlink()
    assert len(run_attack(experiment(trained), tmp_path)) == 3


def test_gaussian_noise_of_the_same_size_does_less(trained: Path, tmp_path: Path):
    noise = run_attack(experiment(trained, method="gaussian", norm="l2"), tmp_path)
    pgd = run_attack(experiment(trained, norm="l2", eps=(0.0, 0.5)), tmp_path)
    assert set(noise["method"]) == {"gaussian"}
    same = run_attack(experiment(trained, method="gaussian", norm="l2", eps=(0.5,)), tmp_path)
    assert same["accuracy"].iloc[0] > pgd["accuracy"].iloc[1]


def test_other_classes_are_the_users_mistake(trained: Path, tmp_path: Path):
    settings = experiment(trained)
    target = dataclasses.replace(TARGET, classes=(0, 1, 2))
    with pytest.raises(UserError, match=r"has 10 classes and digits has 3"):
        run_attack(dataclasses.replace(settings, target=target), tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_network_of_a_work_directory_is_attacked_as_by_itself(tmp_path: Path, capsys):
    grid = Experiment(
        task="sweep",
        source=Source("random", "resnet18", "small", (1, 1), (8, 16)),
        target=TARGET,
        augmentation=PRESETS["none"],
        transfer=Recipe(head="uniform", frozen_batch_norm="source", epochs=6, batch_size=40),
        sweep=Sweep(blocks=(0, 1), num_images=(100,), seeds=2, keep_networks=True),
    )
    tuned = last_epochs(run_sweep(grid, tmp_path / "tuned")).set_index(["blocks", "seed"])
    chosen = Attack(eps=EPS, steps=4, batch_size=50, num_shown=0, runs=str(tmp_path / "tuned"))
    every = Experiment(task="attack", attack=chosen)
    rows = run(every, tmp_path / "attacked")
    assert capsys.readouterr().out.count("random -> digits, ") == 4
    assert len(rows) == len(tuned) * len(EPS)
    assert not rows["config"].str.contains(str(tmp_path), regex=False).any()
    for (blocks, seed), group in rows.groupby(["blocks", "seed"]):
        own = tuned.loc[(blocks, seed)]
        assert set(group["source"]) == {"random"} and set(group["num_images"]) == {100}
        for column in ("head_fit", "optimizer", "learning_rate", "weight_decay", "perturbation"):
            assert set(group[column]) == {own[column]}
        assert group["accuracy"].iloc[0] == pytest.approx(own.accuracy)
        network = tmp_path / "tuned" / "runs" / str(own.run)
        settings = dataclasses.replace(chosen, runs=None)
        alone = run_attack(
            Experiment(task="attack", source=Source(str(network)), target=TARGET, attack=settings),
            tmp_path / "alone",
        )
        np.testing.assert_array_equal(alone["accuracy"], group["accuracy"])
    assert rows[rows["eps"] == 0.1]["accuracy"].mean() < rows[rows["eps"] == 0]["accuracy"].mean()
    fewer = dataclasses.replace(every, target=Target(num_test_images=20))
    assert set(run_attack(fewer, tmp_path / "fewer")["num_test_images"]) == {20}
    first, second = sorted(rows["seed"].unique())
    one = dataclasses.replace(every, attack=dataclasses.replace(chosen, seeds=(int(second),)))
    again = run_attack(one, tmp_path / "attacked")  # finished before, with every seed
    assert set(again["run"]) == set(rows[rows["seed"] == second]["run"])
    one = dataclasses.replace(every, attack=dataclasses.replace(chosen, seeds=(int(first), 5)))
    with pytest.raises(
        UserError, match=rf"attack\.seeds: no .* 5 in .*, only of {first}, {second}"
    ):
        run_attack(one, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_work_directory_without_fine_tuned_networks_is_named(tmp_path: Path):
    settings = Experiment(task="attack", attack=Attack(runs=str(tmp_path)))
    with pytest.raises(UserError, match=r"attack\.runs: .* holds no networks: .*keep_networks"):
        run_attack(settings, tmp_path / "out")
    network = load_source("bundled:l2")
    place = tmp_path / "runs" / "source" / "network"
    Network(network.architecture, network.params, network.batch_stats, network.provenance).save(
        place
    )
    with pytest.raises(UserError, match=r"attack\.runs: .*source/network is not a .*fine-tuned"):
        run_attack(settings, tmp_path / "out")


def test_intervals_are_wilsons():
    # Brown, Cai and DasGupta (2001), by the formula at 8 of 10.
    z = 1.959964
    centre, half = (0.8 + z**2 / 20) / (1 + z**2 / 10), z / (1 + z**2 / 10)
    half *= np.sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    assert wilson_interval(80.0, 10) == pytest.approx(
        (100 * (centre - half), 100 * (centre + half)), 1e-4
    )
