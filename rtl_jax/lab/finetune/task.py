"""The task `finetune`: fine-tunes a source network on a target data set and measures it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from etils import epath

from rtl_jax.lab.config import Experiment
from rtl_jax.lab.finetune.job import Job, prepare, tell_differences
from rtl_jax.lab.finetune.rows import (
    attacked_rows,
    baseline_rows,
    complete_baselines,
    evaluation_row,
    without_baselines,
)
from rtl_jax.lab.run import open_run
from rtl_jax.models.storage import rename_classes
from rtl_jax.runtime import devices
from rtl_jax.train.checkpoints import TrainingCheckpoints
from rtl_jax.train.loop import Loop
from rtl_jax.train.step import TrainState
from rtl_jax.train.trainer import Training, begin


def run_finetune(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Run one experiment, or what is left of it, and return its rows.

    Rows go to WORKDIR/rows, checkpoints and the fine-tuned network to WORKDIR/runs/RUN. A
    finished run is not repeated; an interrupted one resumes from its last checkpoint and ends as
    if it had not been interrupted. `convert` turns torch checkpoints into networks.

    Raises UserError for user-fixable errors, including divergence.
    """
    return finetune_job(prepare(experiment), workdir)


def finetune_job(job: Job, workdir: epath.PathLike) -> pd.DataFrame:
    """Run a job, as `run_finetune`, whose images are loaded already."""
    print(job.describe())
    experiment = job.experiment
    with (
        devices.matmul_precision(experiment.transfer.precision),
        open_run(workdir, job.run, keeps="network", scratch="checkpoints") as run,
    ):
        if run.pending:
            tell_differences([job])
            rows = _train(job, run.directory)
            if experiment.transfer.baseline:
                rows += baseline_rows(job)
            # The network and the rows are all that is needed of a finished run.
            run.finish(rows)
        elif experiment.transfer.baseline and without_baselines([job.run], workdir):
            complete_baselines([job], workdir)
    rename_classes(run.directory / "network", job.dataset.class_names)
    return run.rows()


class Evaluations:
    """The evaluations of one fine-tuning, as rows."""

    def __init__(self, job: Job, training: Training, started: float):
        self.job, self.training, self.started = job, training, started
        self.evaluations = job.experiment.transfer.eval_epochs(job.program.epochs)
        self.rows: list[dict[str, Any]] = []

    def evaluate(
        self, epoch: int, state: TrainState, trained: Sequence[Mapping[str, float]]
    ) -> Mapping[str, str]:
        """Add a row."""
        (tested,) = self.training.evaluate(state).each()
        seconds = time.monotonic() - self.started
        self.rows.append(evaluation_row(self.job, epoch, tested, trained[0], seconds))
        shown = {"test": f"{tested['accuracy']:.2f}%"}
        if self.job.attacked_images is not None:
            variables = self.training.variables(state, 0)
            found = attacked_rows(self.job, epoch, variables, trained[0], self.started)
            shown |= {f"{row['eps']:.3g}": f"{row['accuracy']:.1f}%" for row in found}
            self.rows += found
        return shown

    def record(self) -> dict[str, Any]:
        """Return the rows so far, and the seconds that they took."""
        return {"rows": self.rows, "seconds": time.monotonic() - self.started}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Restore the state that `record` returned."""
        self.rows = list(record["rows"])
        self.started -= record["seconds"]


def _train(job: Job, directory: epath.Path) -> list[dict[str, Any]]:
    """Train from the last checkpoint, or from the start; return the rows of all evaluations."""
    started = time.monotonic()
    training, state = begin([job])
    log = Evaluations(job, training, started)
    with TrainingCheckpoints(directory / "checkpoints", "step") as checkpoints:
        loop = Loop(training, state, log, checkpoints=checkpoints, what="fine-tuning", name=job.run)
        state = loop.run()
    if not (directory / "network").exists():
        training.network(state, job, 0).save(directory / "network")
    return log.rows
