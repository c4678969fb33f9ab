"""The question 'wrong_labels': training images ranked by their influence on themselves.

Self-influence, g^T H^-1 g, is how much an image's own loss would rise without it: large for one
that the others do not predict, as images with a wrong label are.
"""

import dataclasses
import time

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.data.sources import training_files
from rtl_jax.errors import UserError
from rtl_jax.influence.head import Examples
from rtl_jax.influence.scores import self_gradient, self_influence
from rtl_jax.lab import results
from rtl_jax.lab.config import Experiment, Target
from rtl_jax.lab.finetune.job import Job, prepare
from rtl_jax.lab.influence.finetuned import Finetuned, explained, name_run, of_settings
from rtl_jax.lab.influence.label_noise import flip_labels, recall, write_set
from rtl_jax.lab.influence.method import solver_for
from rtl_jax.lab.influence.plots import draw_recall, draw_suspects
from rtl_jax.models.sources import Convert
from rtl_jax.runtime.paths import absolute, complete_or_absent
from rtl_jax.runtime.progress import bar

INSPECTED = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50)  # percent of the training images
SUSPECTS = 32  # images in the figure


def find_wrong_labels(
    experiment: Experiment, workdir: epath.PathLike, convert: Convert | None = None
) -> pd.DataFrame:
    """Rank the training images; the most suspicious come first in WORKDIR/runs/RUN.

    training_images.csv lists all of them, suspects.png shows the first. With
    `influence.flip_labels` a share of labels is made wrong before fine-tuning, and the rows say
    what share of these each ranking finds. Raises UserError for what the user can mend.
    """
    workdir, started, flips = absolute(workdir), time.monotonic(), experiment.influence.flip_labels
    if experiment.influence.compare is not None:
        raise UserError("influence.compare: expected none with influence.question=wrong_labels")
    flipped: np.ndarray | None = None
    if flips:
        one, original, flipped = _with_flips(experiment, workdir, convert)
    else:
        (one,) = explained(experiment, workdir, convert)
        original = one.job
    run = name_run(experiment, [one])
    directory, path = workdir / "runs" / run, results.rows_path(workdir, run)
    if path.exists():
        print(f"run {run} is finished; its rows are in {path}")
    else:
        train = one.examples(one.job.train, "training images")
        ranked = _rankings(experiment, one, train)
        table = _table(original, one, train, ranked, flipped)
        _write_table(directory / "training_images.csv", table)
        _draw_suspects(directory / "suspects.png", one, table)
        rows = _rows(experiment, run, one, ranked, flipped, time.monotonic() - started)
        if flipped is not None:
            draw_recall(directory / "recall.png", pd.DataFrame(rows))
        results.write_rows(workdir, run, rows)
    print(f"the ranking is in {directory / 'training_images.csv'}")
    found = results.read_rows(workdir)
    return found[found["run"] == run].reset_index(drop=True)


def _with_flips(
    experiment: Experiment, workdir: epath.Path, convert: Convert | None
) -> tuple[Finetuned, Job, np.ndarray]:
    """Fine-tune on the subset with some labels flipped; that, the job without, and which ones."""
    if experiment.influence.run is not None:
        raise UserError(
            "influence.run: expected none with influence.flip_labels, for labels are flipped "
            "before a fine-tuning: set source.checkpoint and target instead"
        )
    settings = dataclasses.replace(experiment, task="finetune")
    job = prepare(settings, convert)
    labels, flipped = flip_labels(
        job.train.labels,
        experiment.influence.flip_labels,
        job.pair.dataset.num_classes,
        experiment.seed,
    )
    path = workdir / "flipped" / f"{job.run}-{experiment.influence.flip_labels:g}.npz"
    write_set(path, dataclasses.replace(job.train, labels=labels), job.test)
    target = Target(f"npz:{path}", image_size=settings.target.image_size)
    return of_settings(dataclasses.replace(settings, target=target), workdir, convert), job, flipped


def _rankings(experiment: Experiment, one: Finetuned, train: Examples) -> dict[str, np.ndarray]:
    """What each method ranks by, [N]: the larger, the more suspicious."""
    solver = solver_for(experiment.influence, one.head, train)
    with bar("self-influence", train.num_examples) as progress:
        influence = self_influence(solver, train, progress.update)
    return {"influence": influence, "gradient": self_gradient(train), "loss": train.losses}


def _order(values: np.ndarray) -> np.ndarray:
    return np.argsort(-values, kind="stable")


def _rows(
    experiment: Experiment,
    run: str,
    one: Finetuned,
    ranked: dict[str, np.ndarray],
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
        for method, values in ranked.items()
        for inspected in INSPECTED
    ]


def _table(
    original: Job,
    one: Finetuned,
    train: Examples,
    ranked: dict[str, np.ndarray],
    flipped: np.ndarray | None,
) -> pd.DataFrame:
    """The training images, the most suspicious first; `image` counts in the data set's own."""
    names = np.array(original.pair.dataset.class_names)
    predicted = train.probabilities.argmax(1)
    columns = {
        "row": np.arange(train.num_examples),
        "image": original.train_rows,
        "file": image_files(original),
        "label": names[train.labels],
        "prediction": names[predicted],
        "probability": train.probabilities[np.arange(train.num_examples), train.labels],
        **ranked,
        "flipped": flipped,
    }
    kept = {name: column for name, column in columns.items() if column is not None}
    return pd.DataFrame(kept).iloc[_order(ranked["influence"])]


def image_files(job: Job) -> list[str] | None:
    """The file of each training image, where the data set is a folder or a list of them."""
    pairs = training_files(job.experiment.target.dataset)
    if pairs is None:
        return None
    classes = job.experiment.target.classes
    files = [str(file) for file, label in pairs if classes is None or label in classes]
    return [files[row] for row in job.train_rows]


def _write_table(path: epath.Path, table: pd.DataFrame) -> None:
    with complete_or_absent(path, replace=True) as temporary:
        temporary.write_text(table.to_csv(index=False))


def _draw_suspects(path: epath.Path, one: Finetuned, table: pd.DataFrame) -> None:
    first = table.iloc[:SUSPECTS]
    images = one.job.train.images[first["row"]]
    flipped = first["flipped"].to_numpy() if "flipped" in first else None
    draw_suspects(path, images, list(first["label"]), list(first["prediction"]), flipped)
