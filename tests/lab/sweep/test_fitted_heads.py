"""Fitted heads in fine-tunings: alone, in parallel, and as the start of training blocks."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import rtl_jax as rtl
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment, Source, Sweep, Target
from rtl_jax.lab.finetune.job import prepare
from rtl_jax.lab.finetune.task import run_finetune
from rtl_jax.lab.sweep.table import summarize
from rtl_jax.lab.sweep.task import run_sweep
from rtl_jax.models.network import Network
from rtl_jax.train.heads.fit import fit_heads
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.trainer import begin

pytestmark = pytest.mark.slow

SOURCE = Source("random", "resnet50", "small", stage_sizes=(1, 1), stage_widths=(4, 6))
FITTED = ("ridge", "logistic")


def experiment(**transfer) -> Experiment:
    settings = {"blocks": 0, "epochs": 2, "batch_size": 20, "learning_rate": 0.01}
    return Experiment(
        source=SOURCE,
        target=Target("digits", image_size=8, num_images=40, num_test_images=50),
        augmentation=PRESETS["none"],
        transfer=Recipe(**{**settings, "frozen_batch_norm": "source", **transfer}),
        seed=7,
    )


def expected_of(settings: Experiment) -> tuple[np.ndarray, Mapping[str, float]]:
    """Compute the kernel and the test accuracy from the source's own features."""
    job = prepare(settings)
    features, tested = (
        job.source.features(images.images, image_size=8)
        for images in (job.training_images, job.test_images)
    )
    fit = settings.transfer.head_fit
    (fitted,) = fit_heads(fit, [features], [job.training_images.labels], 10)
    hits = (tested @ fitted.kernel + fitted.bias).argmax(1) == job.test_images.labels
    return fitted.kernel, {"accuracy": 100 * hits.mean(), "train": fitted.measured["accuracy"]}


@pytest.mark.parametrize("head_fit", FITTED)
def test_a_head_alone_has_no_epochs(tmp_path: Path, head_fit: str):
    settings = experiment(head_fit=head_fit)
    kernel, expected = expected_of(settings)
    (row,) = run_finetune(settings, tmp_path).itertuples()
    assert (row.head_fit, row.epoch, row.epochs) == (head_fit, 0, 0)
    assert row.accuracy == pytest.approx(expected["accuracy"])
    assert row.train_accuracy == pytest.approx(expected["train"])
    (directory,) = tmp_path.glob("runs/*/network")
    network = Network.load(directory)
    np.testing.assert_allclose(network.head.kernel, kernel, atol=1e-3 * np.abs(kernel).max())
    assert network.provenance["head_fit"]["method"] == head_fit


@pytest.mark.parametrize(
    "changes",
    [
        {"frozen_batch_norm": "batch"},
        {"frozen_batch_norm": "adapt", "head_fit": "logistic"},
        {"feature_store": "none"},
    ],
    ids=str,
)
def test_blocks_start_from_the_fitted_head(changes: Mapping[str, str]):
    settings = experiment(**{"blocks": 1, "head_fit": "ridge", **changes})
    training, state = begin([prepare(settings)])
    kernel, _ = expected_of(settings)
    path, _ = training.program.network.architecture.head
    assert training.num_steps == 4
    if changes.get("frozen_batch_norm") != "adapt":  # whose features are others
        start = np.asarray(state.params[path])[0]
        np.testing.assert_allclose(start, kernel, atol=1e-3 * np.abs(kernel).max())
    (measured,) = [head.measured for head in training.heads]
    # What blocks begin with is better than what a head drawn at random would be.
    assert measured["accuracy"] > 30


def test_kinds_of_heads_are_an_axis_of_a_sweep(tmp_path: Path):
    grid = Sweep(head_fits=("sgd", *FITTED), folds=(0, 1), seeds=2)
    base = experiment()
    target = dataclasses.replace(base.target, num_images=30, num_test_images=None, folds=2)
    settings = dataclasses.replace(base, task="sweep", target=target, sweep=grid)
    rows = run_sweep(settings, tmp_path)
    last = rows[rows["epoch"] == rows["epochs"]]
    assert last.groupby("head_fit")["accuracy"].count().to_dict() == dict.fromkeys(
        grid.head_fits, 4
    )
    assert "ridge" in summarize(rows) and "head_fit" in summarize(rows)
    # Each is the same run alone.
    one = last[(last["head_fit"] == "ridge") & (last["fold"] == 1)].iloc[-1]
    transfer = dataclasses.replace(settings.transfer, head_fit="ridge")
    alone = dataclasses.replace(
        settings,
        task="finetune",
        target=dataclasses.replace(target, fold=1),
        transfer=transfer,
        sweep=Sweep(),
        seed=int(one["seed"]),
    )
    (row,) = run_finetune(alone, tmp_path / "alone").itertuples()
    assert row.run == one["run"] and row.accuracy == pytest.approx(one["accuracy"])
    assert row.loss == pytest.approx(one["loss"], rel=1e-4)


def test_what_a_solved_head_cannot_do_is_refused():
    with pytest.raises(UserError, match=r"transfer.perturbation: expected 'none' with transfer"):
        experiment(head_fit="ridge", perturbation="pgd")
    with pytest.raises(UserError, match=r"transfer.label_smoothing: expected 0.0"):
        experiment(head_fit="logistic", label_smoothing=0.1)
    experiment(head_fit="ridge", blocks=1, perturbation="pgd")


def test_from_python_many_seeds_share_one_head():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 8, 8, 3), np.uint8)
    source = prepare(experiment()).source
    networks = rtl.finetune(
        source, images, ["cat", "dog"] * 6, seeds=[0, 1], blocks=0, head_fit="ridge"
    )
    # Nothing is drawn.
    np.testing.assert_allclose(networks[0].head.kernel, networks[1].head.kernel, atol=1e-6)


def test_influence_foretells_refits_of_a_logistic_head():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 8, 8, 3), np.uint8)
    labels = (images.mean((1, 2, 3)) > 127).astype(int)
    train, test = (images[:30], labels[:30]), (images[30:], labels[30:])
    source = prepare(experiment()).source
    network = rtl.finetune(source, *train, blocks=0, head_fit="logistic")
    scores = rtl.influence(network, train, test)
    l2 = network.provenance["head_fit"]["l2"]
    features = [network.features(half[0]).astype(np.float64) for half in (train, test)]

    def test_losses(kept: np.ndarray) -> np.ndarray:
        # The sum over what is left, and the penalty of all 30. Of two classes scikit-learn fits
        # one's weights, and so penalises them twice as much.
        model = LogisticRegression(C=2 / (30 * l2), solver="newton-cholesky", tol=1e-10)
        model.fit(features[0][kept], train[1][kept])
        return -model.predict_log_proba(features[1])[np.arange(10), test[1]]

    every = np.arange(30)
    whole = test_losses(every)
    changes = np.stack([test_losses(every[every != one]) - whole for one in range(30)], axis=1)
    assert np.corrcoef(scores.ravel() / 30, changes.ravel())[0, 1] > 0.98
    ridge = rtl.finetune(source, *train, blocks=0, head_fit="ridge")
    with pytest.raises(UserError, match="is a ridge regression"):
        rtl.influence(ridge, train, test)


def test_ridge_heads_that_would_be_explained_are_refused_before_any_work():
    words = "transfer.head_fit: expected 'sgd' or 'logistic'"
    with pytest.raises(UserError, match=words):
        dataclasses.replace(experiment(head_fit="ridge"), task="influence")
    dataclasses.replace(experiment(head_fit="ridge", blocks=1), task="influence")
    dataclasses.replace(experiment(head_fit="logistic"), task="influence")


def test_a_timed_dry_run_takes_heads_that_are_solved_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    grid = Sweep(head_fits=("ridge",), seeds=1, measure=True)
    run_sweep(dataclasses.replace(experiment(), task="sweep", sweep=grid, dry_run=True), tmp_path)
    assert "1 cells, 1 runs" in capsys.readouterr().out
