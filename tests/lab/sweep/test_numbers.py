"""Rates, radii and other numbers in parallel, and networks that are attacked during training."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rtl_jax.attacks.adversarial import robustness_curve
from rtl_jax.attacks.pgd import PGD
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.config import Attack, Experiment, Source, Sweep, Target
from rtl_jax.lab.finetune.job import assemble, load_inputs
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.lab.sweep.grid import cells
from rtl_jax.lab.sweep.table import summarize
from rtl_jax.lab.sweep.task import run_sweep
from rtl_jax.models.network import Network
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.trainer import begin

pytestmark = pytest.mark.slow

RECIPE = Recipe(
    blocks=1,
    frozen_batch_norm="source",
    head="uniform",
    epochs=2,
    batch_size=20,
    learning_rate=0.02,
    perturbation="pgd",
    eps=0.3,
    steps=2,
    beta=1.0,
    num_attacked=10,
)


def experiment(sweep: Sweep = Sweep(), **transfer) -> Experiment:  # noqa: B008 - frozen
    return Experiment(
        task="sweep",
        source=Source("random", "resnet50", "small", stage_sizes=(1, 1), stage_widths=(4, 6)),
        target=Target("digits", image_size=8, num_images=40, num_test_images=50),
        augmentation=PRESETS["none"],
        transfer=RECIPE.replace(**transfer),
        attack=Attack(norm="l2", eps=(0.2, 0.4), steps=2, batch_size=10),
        sweep=sweep,
        seed=7,
    )


GRID = Sweep(learning_rates=(0.02, 0.05), eps=(0.3, 0.6), betas=(1.0, 4.0), seeds=1)


def test_numbers_side_by_side_are_each_alone():
    """Eight of them in one program, compared with a program of one."""
    every = [cell.member(cell.seeds[0]) for cell in cells(experiment(GRID))]
    inputs = load_inputs(every[0])
    jobs = [assemble(one, inputs) for one in every]
    assert len({job.run for job in jobs}) == 8

    def losses(jobs) -> np.ndarray:
        training, state = begin(jobs)
        found = []
        for epoch in (1, 2):
            state, sums = training.epoch(state, epoch)
            found.append(np.asarray(sums.loss))
        return np.array(found).T

    together = losses(jobs)
    assert len({tuple(row) for row in together.tolist()}) == 8
    for row, job in zip(together, jobs, strict=True):
        np.testing.assert_allclose(row, losses([job])[0], rtol=1e-4)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    workdir = tmp_path_factory.mktemp("numbers")
    grid = Sweep(learning_rates=(0.02, 0.05), seeds=1, keep_networks=True)
    return workdir, run_sweep(experiment(grid), workdir)


def test_rows_say_what_varies_and_the_table_tells_it_apart(swept):
    _, rows = swept
    trained = rows[rows["method"] == "transfer"]
    assert sorted(trained["learning_rate"].unique()) == [0.02, 0.05]
    assert trained["train_eps"].eq(0.3).all() and trained["beta"].eq(1.0).all()
    lines = [line for line in summarize(rows).splitlines() if line.startswith("digits")]
    assert len(lines) == 2 and [line.split()[3] for line in lines] == ["0.02", "0.05"]


def test_attacked_rows_are_what_an_attack_on_the_saved_network_finds(swept):
    workdir, rows = swept
    settings = experiment()
    for run, group in rows.groupby("run"):
        network = Network.load(workdir / "runs" / run / "network")
        member = dataclasses.replace(settings, transfer=RECIPE)
        shown = assemble(member, load_inputs(member)).attacked_images
        assert shown is not None and len(shown) == 10
        found = robustness_curve(
            network.logits_fn(),
            prepare(shown.images, 8),
            shown.labels,
            (0.2, 0.4),
            PGD("l2", steps=2),
        )
        last = group[(group["method"] == "pgd") & (group["epoch"] == 2)].sort_values("eps")
        assert last["eps"].tolist() == [0.2, 0.4] and last["num_test_images"].eq(10).all()
        np.testing.assert_allclose(last["accuracy"], 100 * np.asarray(found.robust_accuracy))
        np.testing.assert_allclose(
            last["loss"], np.asarray(found.losses).mean(1), rtol=1e-3, atol=1e-5
        )


def test_autoattack_comes_at_the_end(tmp_path: Path):
    attack = Attack(method="autoattack", attacks=("apgd-ce",), norm="l2", eps=(0.2,), batch_size=10)
    one = dataclasses.replace(experiment(), task="finetune", attack=attack)
    rows = run_finetune(one, tmp_path)
    assert rows.loc[rows["method"] == "autoattack", "epoch"].tolist() == [2]
    assert sorted(rows.loc[rows["method"] == "transfer", "epoch"]) == [1, 2]
    (network,) = tmp_path.glob("runs/*/network")
    assert Network.load(network).num_classes == 10


@pytest.mark.parametrize(
    ("grid", "transfer", "message"),
    [
        ({"eps": (0.1,)}, {"perturbation": "none", "beta": None}, "sweep.eps: expected none"),
        ({"betas": (1.0,)}, {"beta": None}, "sweep.betas: expected none"),
    ],
)
def test_axes_without_effect_are_refused(grid: dict, transfer: dict, message: str):
    with pytest.raises(UserError, match=message):
        experiment(Sweep(**grid), **transfer)


def test_what_attacks_as_it_trains_is_part_of_a_name():
    usual = experiment(num_attacked=0)
    other = dataclasses.replace(usual, attack=Attack(norm="l2", eps=(0.1,)))
    assert usual.fingerprint() == other.fingerprint()
    looked = [dataclasses.replace(one, transfer=RECIPE) for one in (usual, other)]
    assert looked[0].fingerprint() != looked[1].fingerprint()
    assert results.SCHEMA["train_eps"][0] == "float64"
