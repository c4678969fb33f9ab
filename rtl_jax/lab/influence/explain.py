"""The question 'predictions': the most influential training images, and the paper's figures."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.influence_functions.blocks import TrainablePart
from rtl_jax.influence_functions.head import Examples
from rtl_jax.influence_functions.method import solver_for
from rtl_jax.influence_functions.scores import Scores, gradient_kernel, score, top_k, write_scores
from rtl_jax.lab import config
from rtl_jax.lab.compatibility import name_seen
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.influence.finetuned import (
    Finetuned,
    damping,
    explained,
    method,
    name_run,
    recorded,
    with_damping,
)
from rtl_jax.lab.influence.perturbed import (
    PerturbedPairs,
    draw_perturbed,
    perturb_best,
    write_perturbed,
)
from rtl_jax.lab.influence.plots import draw_examples, draw_matches, draw_matrices
from rtl_jax.lab.run import open_run
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.paths import absolute
from rtl_jax.runtime.progress import bar

TOP = 100  # the last rank in Figure 7b
SHOWN = 10  # test images in Figure 6, each of a different class


class RankedImages(NamedTuple):
    """One network's training images ranked by one method, with its title in figures.

    top: [T, k], rows of the training subset; scores: None for the baseline, which is not stored;
    perturbed: None unless `influence.perturb` asks for them.
    """

    title: str
    method: str
    finetuned: Finetuned
    test: Examples
    top: np.ndarray
    scores: Scores | None
    perturbed: PerturbedPairs | None = None


def explain_predictions(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Score training images on the test images for each source; return a row per source and method.

    Rows go to WORKDIR/rows; scores (memory-mapped, see `scores`), Figures 6, 7a and 7b and, with
    `influence.perturb`, perturbed training images go to WORKDIR/runs/RUN. Scores are saved chunk by
    chunk, so that the same command resumes where it was interrupted. Raises UserError for
    user-fixable errors.
    """
    workdir, started = absolute(workdir), time.monotonic()
    found = explained(experiment, workdir)
    experiment = with_damping(experiment, found)
    settings = experiment.influence
    with open_run(workdir, name_run(experiment, found)) as run:
        if run.pending:
            places = {one: run.directory / one.name for one in found}
            ranked = [way for one in found for way in _rank(one, settings, places[one])]
            _draw(run.directory, ranked, settings.num_shown)
            seconds = time.monotonic() - started
            run.finish(_row(experiment, run.name, way, seconds) for way in ranked)
    print(f"scores and figures are in {run.directory}")
    return run.rows()


def _row(experiment: Experiment, run: str, way: RankedImages, seconds: float) -> dict[str, Any]:
    hits = way.test.probabilities.argmax(1) == way.test.labels
    return way.finetuned.row(
        experiment,
        run,
        way.method,
        accuracy=100 * float(hits.mean()),
        loss=float(way.test.losses.mean()),
        seconds=seconds,
        **_matches(way),
    )


def _rank(
    one: Finetuned, settings: config.Influence, directory: epath.Path
) -> Iterator[RankedImages]:
    """Rank by the head's influence, by the gradient alone and, if asked for, by all parameters."""
    train = one.examples(one.job.training_images, f"{one.name}: training images")
    test = one.examples(one.job.test_images, f"{one.name}: test images")
    means = "each of those is explained by itself first"
    name_seen(one.name, one.network, one.job.test_images, means)
    count = min(TOP, train.num_examples)
    chosen = method(settings, one.network)
    solver = solver_for(one.head, train, **chosen)
    record = recorded(chosen)
    with bar(f"{one.name}: scores", min(train.num_examples, test.num_examples)) as progress:
        scores = score(
            directory / "head", solver, test, train, record, progress.update, replace=True
        )
    found, perturbed = top_k(scores.values, count), None
    if settings.perturb:
        rows = _shown(test.labels)[: settings.perturb]
        perturbed = perturb_best(one, settings, solver, test, (found[rows, 0], rows))
    del solver  # its Hessian's memory
    yield RankedImages(one.name, "influence", one, test, found, scores, perturbed)
    nearest = _top_gradient(test, train, count)
    yield RankedImages(f"{one.name}, gradient", "gradient", one, test, nearest, None)
    if settings.parameters == "trainable":
        whole = _score_trainable(one, settings, directory / "trainable")
        alike = np.corrcoef(np.ravel(whole.values), np.ravel(scores.values))[0, 1]
        print(
            f"{one.name}: scores of all trained parameters and of the head alone correlate "
            f"with {alike:.3f}"
        )
        title = f"{one.name}, all trained"
        yield RankedImages(
            title, "influence_trainable", one, test, top_k(whole.values, count), whole
        )


def _top_gradient(test: Examples, train: Examples, count: int) -> np.ndarray:
    parts = [slice(at, at + 1024) for at in range(0, test.num_examples, 1024)]
    return np.concatenate([top_k(gradient_kernel(test.take(rows), train), count) for rows in parts])


def _score_trainable(one: Finetuned, settings: config.Influence, directory: epath.Path) -> Scores:
    """Score by the low-rank Hessian of all trained parameters."""
    blocks = one.job.experiment.transfer.blocks
    part = TrainablePart(one.network, blocks)
    train, test = (
        part.batches(
            one.features(images, blocks, f"{one.name}: in front of the split point"), images.labels
        )
        for images in (one.job.training_images, one.job.test_images)
    )
    steps = 2 * settings.rank
    with bar("Hessian products", steps) as progress:
        low_rank = part.low_rank(
            train, settings.rank, steps, one.job.experiment.seed, progress.update
        )
    added = damping(settings, one.network)
    inverse, vectors = low_rank.inverse(added)
    with bar("projections", 2 * len(vectors)) as progress:
        of_test, of_train = (
            part.project(images, vectors, progress.update) for images in (test, train)
        )
    return write_scores(
        directory,
        lambda rows: (of_test[rows] * inverse) @ of_train.T,
        (len(of_test), len(of_train)),
        axis=0,
        chunk=1024,
        identity=digest((of_test, of_train, inverse)),
        record=lambda: {
            "parameters": part.num_parameters,
            "damping": added,
            "eigenvalues": low_rank.values.tolist(),
            "residuals": low_rank.residuals.tolist(),
        },
        replace=True,
    )


def _matching(way: RankedImages) -> np.ndarray:
    """Return whether each top training image has the test image's label, bool [T, k]."""
    return way.finetuned.job.training_images.labels[way.top] == way.test.labels[:, None]


def _matches(way: RankedImages) -> dict[str, float]:
    matching = _matching(way)
    return {
        "top1_match": 100 * float(matching[:, 0].mean()),
        "top5_match": 100 * float((matching[:, :5].sum(1) >= 3).mean()),
    }


def _shown(labels: np.ndarray) -> np.ndarray:
    """Return the first test image of each class, for the first `SHOWN` classes."""
    return np.array([np.flatnonzero(labels == label)[0] for label in np.unique(labels)[:SHOWN]])


def _draw(directory: epath.Path, ranked: list[RankedImages], num_shown: int) -> None:
    one = ranked[0].finetuned.job
    train, test, names = one.training_images, one.test_images, one.dataset.class_names
    kept = [way for way in ranked if way.scores is not None]
    shown = _shown(test.labels)
    best = {way.title: way.top[shown, :num_shown] for way in kept}
    draw_examples(directory / "figure6.png", train, test, shown, best, names)
    scores: dict[str, Any] = {way.title: way.scores.values for way in kept if way.scores}
    draw_matrices(directory / "figure7a.png", scores, test.labels, train.labels, names)
    if moved := {way.title: (way.finetuned, way.perturbed) for way in kept if way.perturbed}:
        write_perturbed(directory / "perturbed.csv", moved)
        draw_perturbed(directory / "perturbed.png", moved)
    matches = {way.title: 100 * _matching(way).mean(0) for way in ranked}
    shares = [np.bincount(half.labels, minlength=len(names)) / len(half) for half in (train, test)]
    draw_matches(directory / "figure7b.png", matches, 100 * float(shares[0] @ shares[1]))
