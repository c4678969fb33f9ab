"""Train a source and measure it as it goes: the story of one run.

This file owns the loop over steps and its input and output; what it calls is pure (`program`).
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd
from etils import epath
from jax.sharding import Mesh

from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.pretrain import validation
from rtl_jax.lab.pretrain.inputs import Feed
from rtl_jax.lab.pretrain.job import SourceTraining, prepare
from rtl_jax.lab.pretrain.program import SourceState
from rtl_jax.lab.run import Run, open_run
from rtl_jax.runtime import devices
from rtl_jax.runtime.interruption import Stopped, asked_to_stop
from rtl_jax.runtime.progress import bar
from rtl_jax.train.checkpoints import TrainingCheckpoints, named, unnamed
from rtl_jax.train.step import Metrics


def run_pretrain(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Train one source, or what is left of it, and return its rows.

    Rows go to WORKDIR/rows, checkpoints and the trained network to WORKDIR/runs/RUN. A finished
    run is not repeated. An interrupted one goes on from its last checkpoint, which SIGTERM has
    written at once (it then raises `Stopped`), and ends with the same weights as if it had not
    been interrupted. With several hosts (`devices.join_hosts`) WORKDIR is one they all see.

    Raises UserError for user-fixable errors, a training that diverges included.
    """
    with devices.matmul_precision(experiment.pretraining.precision):
        job = prepare(experiment)
        with open_run(workdir, job.run, keeps="network", scratch="checkpoints") as run:
            if run.pending:
                _Training(job, run).train()
                devices.wait_for_hosts("rows are written")
    return run.rows()


class _Training:
    """One run while it goes on: the state on the devices, the rows so far, the clock."""

    def __init__(self, job: SourceTraining, run: Run):
        self.job, self.run, self.directory = job, run, run.directory
        self.mesh: Mesh = devices.batch_mesh()
        self.feed: Feed = job.feed(self.mesh)
        _, self.key, self.attack_key = job.keys()
        start = job.program.start(job.network.params, job.network.batch_stats)
        self.state: SourceState = devices.replicate(self.mesh, start)
        self.sums = Metrics.zero()
        self.rows: list[dict[str, Any]] = []
        self.started = time.monotonic()
        self.saved, self.saved_at = 0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning, over all sessions."""
        return time.monotonic() - self.started

    def train(self) -> None:
        """Train to the end and write rows and network."""
        with (
            contextlib.closing(self.feed),
            TrainingCheckpoints(self.directory / "checkpoints", "step") as checkpoints,
            asked_to_stop() as stop,
        ):
            self._steps(self._restore(checkpoints), checkpoints, stop)
        self._finish()

    def _steps(self, done: int, checkpoints: TrainingCheckpoints, stop: Callable[[], bool]) -> None:
        job, program = self.job, self.job.program
        size = program.settings.batch_size
        with bar("training", job.steps * size, done=done * size, leave=True) as progress:
            for step in range(done, job.steps):
                self.state, metrics = self.feed.advance(program, self.state, step, self.key)
                self.sums = self.sums.add(metrics)
                progress.update(size)
                last_of_epoch = (step + 1) % program.steps_per_epoch == 0
                if last_of_epoch:
                    progress.set_postfix(self._end_epoch(step), refresh=False)
                due = time.monotonic() - self.saved_at >= program.settings.checkpoint_seconds
                if stop() or due or step + 1 == job.steps:
                    self._save(checkpoints, step + 1)
                if stop() and step + 1 < job.steps:
                    raise Stopped(
                        f"stopped after step {step + 1} of {job.steps}, which is saved; the same "
                        "command goes on"
                    )

    def _end_epoch(self, step: int) -> dict[str, str]:
        """Look at the epoch that ends with this step; return what the progress bar shows."""
        program = self.job.program
        epoch = (step + 1) // program.steps_per_epoch
        trained, self.sums = self.sums.means(), Metrics.zero()
        self._require_finite(step + 1, trained["loss"])
        shown = {"loss": f"{trained['loss']:.3g}", "acc": f"{trained['accuracy']:.1f}%"}
        if epoch in program.settings.eval_epochs():
            for measured in self._evaluate():
                self.rows.append(self._row(epoch, measured, trained))
                name = "clean" if measured["eps"] is None else f"{measured['eps']:.3g}"
                shown[name] = f"{measured['accuracy']:.1f}%"
        return shown

    def _evaluate(self) -> list[dict[str, Any]]:
        """Clean accuracy (eps None), then that at every radius of the group `attack`."""
        job, weights = self.job, self.state.result
        on_clean = validation.clean(job.program, weights, job.validation, self.mesh)
        measured: list[dict[str, Any]] = [{"eps": None, **on_clean}]
        if job.attacked is not None:
            settings, images = job.experiment.attack, job.attacked
            measured += validation.attacked(
                job.program, settings, weights, images, self.mesh, self.attack_key
            )
        return measured

    def _require_finite(self, step: int, loss: float) -> None:
        leaves = map(np.asarray, jax.tree.leaves(self.state))
        if np.isfinite(loss) and all(np.isfinite(leaf).all() for leaf in leaves):
            return
        kept = f"the last good checkpoint is step {self.saved}" if self.saved else "none is saved"
        raise UserError(
            f"training diverged by step {step}: its loss is {loss}, or a parameter is not a "
            f"finite number; {kept}. Lower pretraining.learning_rate"
        )

    def _save(self, checkpoints: TrainingCheckpoints, step: int) -> None:
        """Keep everything; hosts need not agree on when, since only the first one writes."""
        self._require_finite(step, float(self.sums.loss))
        record = {
            "rows": self.rows,
            "seconds": self.seconds,
            "position": self.feed.position(),
            "sums": [float(part) for part in self.sums],
        }
        checkpoints.save(step, named(self.state), record)
        self.saved, self.saved_at = step, time.monotonic()

    def _restore(self, checkpoints: TrainingCheckpoints) -> int:
        """Go back to the last checkpoint, if there is one; return the steps done."""
        step = checkpoints.latest()
        if step is None:
            return 0
        leaves, record = checkpoints.restore(step, jax.tree.map(np.asarray, named(self.state)))
        self.state = devices.replicate(self.mesh, unnamed(leaves, self.state))
        self.rows, self.saved = record["rows"], step
        self.started -= record["seconds"]
        loss, correct, number = record["sums"]
        zero = Metrics.zero()
        self.sums = Metrics(
            zero.loss + loss, zero.correct + int(correct), zero.number + int(number)
        )
        self.feed.seek(record["position"])
        print(f"run {self.job.run} goes on after step {step} of {self.job.steps}")
        return step

    def _finish(self) -> None:
        """The network first, the rows last: a run with rows is finished."""
        job = self.job
        if jax.process_index() != 0:
            return
        if not (self.directory / "network").exists():
            weights = jax.tree.map(np.asarray, self.state.result)
            job.network.replace(
                params=weights.params,
                batch_stats=weights.batch_stats,
                provenance=job.provenance(),
            ).save(self.directory / "network")
        self.run.finish(self.rows)

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
            **job.network.columns(),
            **devices.describe(),
        )
