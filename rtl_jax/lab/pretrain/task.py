"""The task `pretrain`: trains a source and evaluates it along the way."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
from etils import epath
from jax.sharding import Mesh

from rtl_jax.lab import evaluation, results
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.finetune.rows import training_columns
from rtl_jax.lab.pretrain.job import SourceTraining, prepare
from rtl_jax.lab.run import Run, open_run
from rtl_jax.models.model import Weights
from rtl_jax.models.storage import rename_classes
from rtl_jax.runtime import devices
from rtl_jax.train.checkpoints import TrainingCheckpoints
from rtl_jax.train.loop import Loop
from rtl_jax.train.step import TrainState


def run_pretrain(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Train one source, or what is left of it, and return its rows.

    Rows go to WORKDIR/rows, checkpoints and the trained network to WORKDIR/runs/RUN. A finished
    run is not repeated. An interrupted one resumes from its last checkpoint and ends with the same
    weights as if it had not been interrupted; SIGTERM writes a checkpoint at once and raises
    `Stopped`. With several hosts (`devices.join_hosts`), all must have access to WORKDIR.

    Raises UserError for user-fixable errors, including divergence.
    """
    with devices.matmul_precision(experiment.pretraining.precision):
        job = prepare(experiment)
        with open_run(workdir, job.run, keeps="network", scratch="checkpoints") as run:
            if run.pending:
                _train(job, run)
                devices.wait_for_hosts("rows are written")
            rename_classes(run.directory / "network", job.class_names)
    return run.rows()


def _train(job: SourceTraining, run: Run) -> None:
    """Train to the end, then write the network and the rows."""
    mesh = devices.batch_mesh()
    training, state = job.begin(mesh)
    log = _Evaluations(job, mesh)
    with TrainingCheckpoints(run.directory / "checkpoints", "step") as checkpoints:
        # Otherwise hosts would train different weights together.
        devices.require_same(
            "the last checkpoint",
            f"step {checkpoints.latest() or 0} of run {run.name}",
            "all need the same images, and a work directory that they share",
        )
        state = Loop(training, state, log, checkpoints=checkpoints, name=job.run).run()
    if jax.process_index() != 0:
        return
    # The network first, the rows last: a run with rows is finished.
    if not (run.directory / "network").exists():
        weights = _alone(state)
        job.network.replace(
            params=weights.params,
            batch_stats=weights.batch_stats,
            provenance=job.provenance(),
        ).save(run.directory / "network")
    run.finish(log.rows)


def _alone(state: TrainState) -> Weights:
    """Return the weights to measure and keep, without their seed axis of length one."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], state.result)


class _Evaluations:
    """The evaluations of one run so far: their rows, and the elapsed time."""

    def __init__(self, job: SourceTraining, mesh: Mesh):
        self.job, self.mesh = job, mesh
        self.evaluations = job.program.settings.eval_epochs()
        self.rows: list[dict[str, Any]] = []
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning, over all sessions."""
        return time.monotonic() - self.started

    def evaluate(
        self, epoch: int, state: TrainState, trained: Sequence[Mapping[str, float]]
    ) -> Mapping[str, str]:
        """Add a row for clean accuracy and one for each radius."""
        shown = {}
        for measured in self._measured(devices.replicate(self.mesh, _alone(state))):
            self.rows.append(self._row(epoch, measured, trained[0]))
            name = "clean" if measured["eps"] is None else f"{measured['eps']:.3g}"
            shown[name] = f"{measured['accuracy']:.1f}%"
        return shown

    def record(self) -> dict[str, Any]:
        """Return the rows so far, and the seconds that they took."""
        return {"rows": self.rows, "seconds": self.seconds}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Restore the state that `record` returned."""
        self.rows = list(record["rows"])
        self.started -= record["seconds"]

    def _measured(self, weights: Weights) -> list[dict[str, Any]]:
        """Measure clean accuracy (eps None), then that at every radius of the group `attack`."""
        job, network = self.job, self.job.program.network
        size = job.program.settings.eval_batch_size
        on_clean = evaluation.clean(network, weights, job.validation, self.mesh, size)
        measured: list[dict[str, Any]] = [{"eps": None, **on_clean}]
        if job.attacked is not None:
            settings, (_, key) = job.experiment.attack, job.keys()
            measured += evaluation.attacked(
                network, settings, weights, job.attacked, self.mesh, key
            )
        return measured

    def _row(
        self, epoch: int, measured: Mapping[str, Any], trained: Mapping[str, float]
    ) -> dict[str, Any]:
        job, attack = self.job, self.job.experiment.attack
        attacked = measured["eps"] is not None
        images = job.attacked if attacked and job.attacked is not None else job.validation
        return results.row(
            job.experiment,
            run=job.run,
            method=attack.method if attacked else "pretrain",
            data_order=job.data_order,
            num_images=job.num_images,
            num_test_images=len(images),
            epoch=epoch,
            epochs=job.program.settings.epochs,
            accuracy=measured["accuracy"],
            loss=measured["loss"],
            train_accuracy=trained["accuracy"],
            train_loss=trained["loss"],
            norm=attack.norm if attacked else None,
            eps=measured["eps"],
            seconds=self.seconds,
            **training_columns(job.program.settings),
            **job.network.columns(),
            **devices.describe(),
        )
