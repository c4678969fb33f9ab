"""Fine-tune a source network on a target data set and measure it: the story of one run.

This file owns the loop over epochs and its input and output; what it calls is pure (`step`).
"""

import time
from typing import Any

import jax
import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.finetune.job import Job, prepare, tell_differences
from rtl_jax.lab.finetune.rows import baseline_row, evaluation_row
from rtl_jax.lab.run import open_run
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar
from rtl_jax.train.checkpoints import TrainingCheckpoints
from rtl_jax.train.step import TrainState, all_finite
from rtl_jax.train.trainer import Training, begin


def run_finetune(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Run one experiment, or what is left of it, and return its rows.

    Rows go to WORKDIR/rows, checkpoints and the fine-tuned network to WORKDIR/runs/RUN. A
    finished run is not repeated; an interrupted one goes on from its last checkpoint and
    ends as if it had not been interrupted. `convert` turns torch checkpoints into networks.

    Raises UserError for user-fixable errors, a training that diverges included.
    """
    return finetune_job(prepare(experiment), workdir)


def finetune_job(job: Job, workdir: epath.PathLike) -> pd.DataFrame:
    """`run_finetune` on images that are loaded already."""
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
                rows.append(baseline_row(job))
            # The network and the rows hold all that a finished run is asked for.
            run.finish(rows)
    return run.rows()


def _train(job: Job, directory: epath.Path) -> list[dict[str, Any]]:
    """Train from the last checkpoint, or from the start; return the rows of all evaluations."""
    settings, epochs = job.experiment.transfer, job.program.epochs
    evaluations = settings.eval_epochs(epochs)
    started = time.monotonic()
    with TrainingCheckpoints(directory / "checkpoints") as checkpoints:
        training, state = begin([job])
        state, done, rows, seconds = _restore(job, checkpoints, state)
        started -= seconds
        saved, saved_at = done, time.monotonic()
        total = len(job.train_indices)
        with bar("fine-tuning", total * epochs, done=total * done, leave=True) as progress:
            for epoch in range(done + 1, epochs + 1):
                state, sums = training.epoch(state, epoch)
                (measured,) = sums.each()
                if not np.isfinite(measured["loss"]) or not all_finite(state).all():
                    raise UserError(_divergence(epoch, measured["loss"], saved, directory))
                shown = {"loss": f"{measured['loss']:.3g}", "acc": f"{measured['accuracy']:.1f}%"}
                if epoch in evaluations:
                    (tested,) = training.evaluate(state).each()
                    seconds = time.monotonic() - started
                    rows.append(evaluation_row(job, epoch, tested, measured, seconds))
                    shown["test"] = f"{tested['accuracy']:.2f}%"
                progress.set_postfix(shown, refresh=False)
                progress.update(total)
                if epoch == epochs or time.monotonic() - saved_at >= settings.checkpoint_seconds:
                    record = {"rows": rows, "seconds": time.monotonic() - started}
                    checkpoints.save(epoch, _named(job, state), record)
                    saved, saved_at = epoch, time.monotonic()
    if not (directory / "network").exists():
        _save_network(job, training, state, directory / "network")
    return rows


def _restore(
    job: Job, checkpoints: TrainingCheckpoints, state: TrainState
) -> tuple[TrainState, int, list[dict[str, Any]], float]:
    """State, finished epochs, rows and seconds of the last checkpoint; `state` without one."""
    epoch = checkpoints.latest()
    if epoch is None:
        return state, 0, [], 0.0
    arrays, record = checkpoints.restore(epoch, _named(job, state))
    leaves = [arrays["state"][name] for name in sorted(arrays["state"])]
    print(f"run {job.run} goes on after epoch {epoch} of {job.program.epochs}")
    restored = jax.tree.unflatten(jax.tree.structure(state), leaves)
    return restored, epoch, record["rows"], record["seconds"]


def _named(job: Job, state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds: the state's leaves, named so that they sort, and the key.

    The key never changes, since every epoch folds its number in; it is kept so that a
    checkpoint says by itself what drew its batches.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    named = {
        f"{index:04d}{jax.tree_util.keystr(path)}": leaf
        for index, (path, leaf) in enumerate(leaves)
    }
    return {"state": named, "key": jax.random.key_data(job.key)}


def _save_network(job: Job, training: Training, state: TrainState, directory: epath.Path) -> None:
    training.network(state, job, 0).save(directory)


def _divergence(epoch: int, loss: float, saved: int, directory: epath.Path) -> str:
    kept = (
        f"the last good checkpoint is epoch {saved}, in {directory / 'checkpoints'}"
        if saved
        else "there is no earlier checkpoint"
    )
    return (
        f"training diverged in epoch {epoch}: its loss is {loss}, or a parameter is not a finite "
        f"number; {kept}. Lower transfer.learning_rate (a large finite loss is normal here)"
    )
