"""The rows that a fine-tuning records."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from rtl_jax.data.variants import at_size
from rtl_jax.lab import evaluation, results
from rtl_jax.lab.finetune.baseline import pixel_baselines
from rtl_jax.lab.finetune.job import Job
from rtl_jax.lab.trackers import track
from rtl_jax.models.model import Weights
from rtl_jax.runtime import devices
from rtl_jax.train.settings import TrainingSettings


def evaluation_row(
    job: Job,
    epoch: int,
    test: Mapping[str, float],
    train: Mapping[str, float],
    seconds: float,
    method: str = "transfer",
) -> dict[str, Any]:
    """Return the row of a job's evaluation after an epoch, `seconds` into its run.

    `test` and `train` hold accuracy (percent) and loss (nats).
    """
    transfer = job.experiment.transfer
    return results.row(
        job.experiment,
        run=job.run,
        method=method,
        data_order=job.dataset.order,
        num_images=len(job.train_indices),
        num_test_images=len(job.test_indices),
        blocks=transfer.blocks,
        frozen_batch_norm=transfer.frozen_batch_norm,
        epoch=epoch,
        epochs=job.program.epochs,
        accuracy=test["accuracy"],
        loss=test["loss"],
        train_accuracy=train["accuracy"],
        train_loss=train["loss"],
        seconds=seconds,
        head_fit=transfer.head_fit,
        **training_columns(transfer),
        **job.network.columns(),
        **devices.describe(),
    )


def training_columns(settings: TrainingSettings) -> dict[str, Any]:
    """Return the columns of a row that describe the training."""
    return {
        "optimizer": settings.optimizer,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "perturbation": settings.perturbation,
        "train_eps": settings.eps if settings.perturbs else None,
        "beta": settings.beta,
    }


def attacked_rows(
    job: Job,
    epoch: int,
    variables: tuple[Mapping[str, Any], Mapping[str, Any]],
    train: Mapping[str, float],
    started: float,
) -> list[dict[str, Any]]:
    """Attack a job's network after an epoch; return a row for each radius of the group `attack`.

    `started` is the start by `time.monotonic`. There are no rows if no test images are attacked.
    """
    images, attack = job.attacked_images, job.experiment.attack
    if images is None:
        return []
    found = evaluation.robustness(
        job.program.network,
        attack,
        Weights(*map(dict, variables)),
        images,
        job.attack_key,
        last=epoch == job.program.epochs,
    )
    seconds = time.monotonic() - started
    return [
        evaluation_row(job, epoch, measured, train, seconds, method=attack.method)
        | {"norm": attack.norm, "eps": measured["eps"], "num_test_images": len(images)}
        for measured in found
    ]


def without_baselines(runs: Iterable[str], workdir: epath.PathLike) -> list[str]:
    """Return those runs that have no rows of `transfer.baseline`, in order."""
    known = results.recorded(workdir, ["run", "method"])
    done = set(known.loc[known["method"].isin(results.PIXEL_BASELINES), "run"])
    return [run for run in runs if run not in done]


def complete_baselines(jobs: Sequence[Job], workdir: epath.PathLike) -> None:
    """Write the rows of `transfer.baseline` for finished jobs that ran without it, one or more."""
    rows = [row for job in jobs for row in baseline_rows(job)]
    name = results.group_name([job.run for job in jobs])
    results.write_rows(workdir, f"{name}-pixels", rows)
    track(workdir, rows)


def baseline_rows(job: Job) -> list[dict[str, Any]]:
    """Return the rows of classifiers on the raw pixels of a job's images."""
    started, train = time.monotonic(), job.training_images
    if job.inputs.corrupted is not None:  # the test images then have the network's size
        train = at_size(train, job.experiment.target.image_size)
    found = pixel_baselines(train, job.test_images)
    seconds = time.monotonic() - started
    return [
        evaluation_row(
            job,
            job.program.epochs,
            measured,
            {name: measured[f"train_{name}"] for name in ("accuracy", "loss")},
            seconds,
            method=method,
        )
        for method, measured in found.items()
    ]
