"""The question 'wrong_labels': training images ranked by their influence on themselves.

Self-influence, g^T H^-1 g, is how much an image's own loss would rise without it. It is large for
images that the others do not predict, such as those with a wrong label.
"""

import dataclasses
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.data.sources import training_files
from rtl_jax.errors import UserError
from rtl_jax.influence_functions.head import Examples
from rtl_jax.influence_functions.method import solver_for
from rtl_jax.influence_functions.scores import self_gradient, self_influence
from rtl_jax.lab import config
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.finetune.job import Job, prepare
from rtl_jax.lab.influence.finetuned import (
    Finetuned,
    explained,
    method,
    name_run,
    of_job,
    with_damping,
)
from rtl_jax.lab.influence.label_noise import flip_labels, recall
from rtl_jax.lab.influence.plots import draw_recall, draw_suspects
from rtl_jax.lab.run import open_run
from rtl_jax.runtime.paths import absolute, complete_or_absent, printable
from rtl_jax.runtime.progress import bar

INSPECTED = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50)  # percent of the training images
SUSPECTS = 32  # images in the figure


def find_wrong_labels(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Rank the training images by how suspicious their labels are; return the rows.

    In WORKDIR/runs/RUN, training_images.csv lists all of them and suspects.png shows the most
    suspicious. `influence.flip_labels` flips a share of labels before fine-tuning, and the rows say
    what share of these each ranking finds. Raises UserError for user-fixable errors.
    """
    workdir, started = absolute(workdir), time.monotonic()
    if experiment.influence.compare is not None:
        raise UserError("influence.compare: expected none with influence.question=wrong_labels")
    flipped: np.ndarray | None = None
    if experiment.influence.flip_labels:
        one, flipped = _with_label_noise(experiment, workdir)
    else:
        (one,) = explained(experiment, workdir)
    experiment = with_damping(experiment, [one])
    with open_run(workdir, name_run(experiment, [one])) as run:
        if run.pending:
            ranked = rank(experiment.influence, one)
            table = suspects(one, ranked, flipped)
            _write_table(run.directory / "training_images.csv", table)
            draw_first(run.directory / "suspects.png", one, table)
            seconds = time.monotonic() - started
            rows = _rows(experiment, run.name, one, ranked, flipped, seconds)
            if flipped is not None:
                draw_recall(run.directory / "recall.png", pd.DataFrame(rows))
            run.finish(rows)
    print(f"the ranking is in {run.directory / 'training_images.csv'}")
    return run.rows()


class RankedLabels(NamedTuple):
    """The training images as the head sees them, and each method's values, [N].

    Larger values are more suspicious.
    """

    train: Examples
    values: dict[str, np.ndarray]


def _with_label_noise(experiment: Experiment, workdir: epath.Path) -> tuple[Finetuned, np.ndarray]:
    """Fine-tune with some labels flipped; return the fine-tuning and which ones, bool [N]."""
    if experiment.influence.run is not None:
        raise UserError(
            "influence.run: expected none with influence.flip_labels, since labels are "
            "flipped before fine-tuning: set source.checkpoint and target instead"
        )
    job = prepare(dataclasses.replace(experiment, task="finetune"))
    labels, flipped = flip_labels(
        job.training_images.labels,
        experiment.influence.flip_labels,
        job.dataset.num_classes,
        experiment.seed,
    )
    whole = job.train.labels.copy()
    whole[job.train_indices] = labels
    train = dataclasses.replace(job.train, labels=whole)
    inputs = dataclasses.replace(job.inputs, dataset=dataclasses.replace(job.dataset, train=train))
    noisy = dataclasses.replace(job, inputs=inputs, train=train)
    return of_job(noisy, workdir), flipped


def rank(settings: config.Influence, one: Finetuned) -> RankedLabels:
    """Rank the training images by self-influence, by the gradient alone, and by their loss."""
    train = one.examples(one.job.training_images, "training images")
    solver = solver_for(one.head, train, **method(settings, one.network))
    with bar("self-influence", train.num_examples) as progress:
        influence = self_influence(solver, train, progress.update)
    values = {"influence": influence, "gradient": self_gradient(train), "loss": train.losses}
    return RankedLabels(train, values)


def _order(values: np.ndarray) -> np.ndarray:
    return np.argsort(-values, kind="stable")


def _rows(
    experiment: Experiment,
    run: str,
    one: Finetuned,
    ranked: RankedLabels,
    flipped: np.ndarray | None,
    seconds: float,
) -> list[dict]:
    if flipped is None:
        return [one.row(experiment, run, "influence", seconds=seconds)]
    return [
        one.row(
            experiment,
            run,
            method,
            inspected=float(inspected),
            recall=recall(flipped, _order(values), inspected),
            seconds=seconds,
        )
        for method, values in ranked.values.items()
        for inspected in INSPECTED
    ]


def suspects(
    one: Finetuned, ranked: RankedLabels, flipped: np.ndarray | None = None
) -> pd.DataFrame:
    """Tabulate training images, the most suspicious first; `image` indexes the data set's half."""
    train, job = ranked.train, one.job
    names = np.array(job.dataset.class_names)
    columns = {
        "row": np.arange(train.num_examples),
        "image": job.train_indices,
        "file": image_files(job),
        "label": names[train.labels],
        "prediction": names[train.probabilities.argmax(1)],
        "probability": train.probabilities[np.arange(train.num_examples), train.labels],
        **ranked.values,
        "flipped": flipped,
    }
    kept = {name: column for name, column in columns.items() if column is not None}
    return pd.DataFrame(kept).iloc[_order(ranked.values["influence"])]


def image_files(job: Job) -> list[str] | None:
    """Return each training image's file, or None unless the data set is a folder or a list."""
    pairs = training_files(job.experiment.target.dataset)
    if pairs is None:
        return None
    classes = job.experiment.target.classes
    files = [printable(file) for file, label in pairs if classes is None or label in classes]
    return [files[row] for row in job.train_indices]


def _write_table(path: epath.Path, table: pd.DataFrame) -> None:
    with complete_or_absent(path, replace=True) as temporary:
        temporary.write_text(table.to_csv(index=False))


def draw_first(
    path: epath.Path, one: Finetuned, table: pd.DataFrame, named: str = "prediction"
) -> None:
    """Draw the first images of `suspects`' table, as PNG, with the predictions of a column."""
    first = table.iloc[:SUSPECTS]
    images = one.job.training_images.images[first["row"]]
    flipped = first["flipped"].to_numpy() if "flipped" in first else None
    draw_suspects(path, images, list(first["label"]), list(first[named]), flipped)
