"""Run cells that share a source, target and split point: features once, seeds in parallel.

Rows are written all at once when their seeds have finished. However the process ends, a finished
run is found again by its name, and an unfinished one leaves nothing.
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from etils import epath

from rtl_jax.data.source import shown
from rtl_jax.lab import results
from rtl_jax.lab.config import Experiment, Sweep
from rtl_jax.lab.finetune.job import Inputs, Job, assemble, load_inputs, tell_differences
from rtl_jax.lab.finetune.rows import (
    attacked_rows,
    baseline_rows,
    complete_baselines,
    evaluation_row,
    without_baselines,
)
from rtl_jax.lab.inputs import load_network
from rtl_jax.lab.sweep.grid import Cell
from rtl_jax.lab.sweep.kept import keeps, save_logits, save_networks
from rtl_jax.lab.trackers import track
from rtl_jax.models.storage import network_path, rename_classes
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar, say
from rtl_jax.train.loop import Loop, NoLog
from rtl_jax.train.parallel import in_groups, seeds_at_once
from rtl_jax.train.side_by_side import all_finite
from rtl_jax.train.step import TrainState
from rtl_jax.train.trainer import FeatureCaches, Training, begin, caches_for


def run_cells(
    cells: Sequence[Cell],
    sweep: Sweep,
    workdir: epath.PathLike,
) -> list[str]:
    """Run the missing runs of cells that share source, target and split point; name all runs.

    Raises UserError if the source or target is missing or does not fit the settings.
    """
    first = cells[0].experiment
    devices.enable_compilation_cache()  # not yet done in a worker's process
    with devices.matmul_precision(first.transfer.precision):
        pairs = _Pairs(load_inputs(first))
        runs = {
            member.fingerprint(**pairs.of(member).digests): member
            for cell in cells
            for member in map(cell.member, cell.seeds)
        }
        finished = results.finished(workdir)
        wanted = [
            member
            for run, member in runs.items()
            if run not in finished or not keeps(run, sweep, workdir)
        ]
        if wanted:
            jobs = [assemble(member, pairs.of(member)) for member in wanted]
            tell_differences(jobs)
            _run(jobs, sweep, workdir)
        ran = [run for run in runs if run in finished]
        if first.transfer.baseline and (lacking := without_baselines(ran, workdir)):
            complete_baselines(
                [assemble(runs[run], pairs.of(runs[run])) for run in lacking], workdir
            )
        if sweep.keep_networks:
            for run in runs:
                rename_classes(network_path(workdir, run), pairs.first.dataset.class_names)
    return list(runs)


@dataclasses.dataclass
class _Pairs:
    """The loaded inputs of each run: the same for all, except random sources, drawn per seed."""

    first: Inputs

    def of(self, member: Experiment) -> Inputs:
        if member.source.checkpoint != "random":
            return self.first
        source = load_network(member.source, member.seed)
        return dataclasses.replace(self.first, source=source)


def _run(jobs: Sequence[Job], sweep: Sweep, workdir: epath.PathLike) -> None:
    """Run jobs that share source, target and split point, with seeds of one size in parallel."""
    experiment = jobs[0].experiment
    own = experiment.source.checkpoint == "random" or jobs[0].program.network.own_statistics
    caches = None if own else caches_for(jobs)
    images = sum(len(job.train_indices) * job.program.epochs for job in jobs)
    trained = results.blocks_name(experiment.transfer.blocks)
    target = shown(experiment.target.dataset)
    what = f"{experiment.source.checkpoint} -> {target}, {trained}"
    with bar(what, images, leave=True) as progress:
        for group in in_one_program(jobs, sweep, caches):
            training, state, log = _train(group, caches, sweep, progress)
            rows = log.rows
            if experiment.transfer.baseline:
                rows += [row for job in group for row in baseline_rows(job)]
            if sweep.keep_networks:
                save_networks(group, training, state, workdir)
            if sweep.keep_logits or sweep.keep_every_logits:
                save_logits(group, training.logits(state), log.logits, workdir)
            results.write_rows(workdir, results.group_name([job.run for job in group]), rows)
            track(workdir, rows)
            del training, state, log  # the next seeds need their memory


def in_one_program(
    jobs: Sequence[Job], sweep: Sweep, caches: FeatureCaches | None = None
) -> Iterator[Sequence[Job]]:
    """Yield jobs to run in one program: of one size, length, fold and `head_fit`, as many as fit.

    `caches` hold their images; None: each makes its own.
    """
    kinds = dict.fromkeys(map(_kind, jobs))
    for kind in kinds:
        same = [job for job in jobs if _kind(job) == kind]
        asked = sweep.seeds_at_once
        yield from in_groups(same, repeat(asked) if asked else seeds_at_once(same, caches))


def _kind(job: Job) -> tuple[int, int, int | None, str]:
    fold, head_fit = job.experiment.target.fold, job.experiment.transfer.head_fit
    return len(job.train_indices), job.program.epochs, fold, head_fit


def _train(
    jobs: Sequence[Job], caches: FeatureCaches | None, sweep: Sweep, progress: Any
) -> tuple[Training, TrainState, "_Evaluations"]:
    """Train jobs of one size in lockstep; return training, final state and evaluations."""
    started = time.monotonic()
    training, state = begin(jobs, caches)
    log = _Evaluations(jobs, training, started, sweep.keep_every_logits)
    # Seeds that diverge get rows that say so, and do not stop the others.
    state = Loop(training, state, log, ends=False, progress=progress).run()
    finite = all_finite(state)
    if not finite.all():
        size = len(jobs[0].train_indices)
        seeds = [job.experiment.seed for job, good in zip(jobs, finite, strict=True) if not good]
        say(f"diverged on {size} images, with rows that say so: seeds {seeds}")
    return training, state, log


class _Evaluations(NoLog):
    """The evaluations of jobs in lockstep, as rows and, with `keeps_logits`, as logits by epoch."""

    def __init__(self, jobs: Sequence[Job], training: Training, started: float, keeps_logits: bool):
        self.jobs, self.training, self.started = jobs, training, started
        program = jobs[0].program
        self.evaluations = program.settings.eval_epochs(program.epochs)
        self.rows: list[dict[str, Any]] = []
        self.logits: dict[int, np.ndarray] | None = {} if keeps_logits else None  # [S, M, C]

    def evaluate(
        self, epoch: int, state: TrainState, trained: Sequence[Mapping[str, float]]
    ) -> Mapping[str, str]:
        """Add a row for each job, with its share of the program's time."""
        tested = self.training.evaluate(state).each()
        if self.logits is not None:
            self.logits[epoch] = self.training.logits(state)
        seconds = (time.monotonic() - self.started) / len(self.jobs)
        self.rows += [
            evaluation_row(job, epoch, test, train, seconds)
            for job, test, train in zip(self.jobs, tested, trained, strict=True)
        ]
        for index, (job, train) in enumerate(zip(self.jobs, trained, strict=True)):
            if job.attacked_images is not None:
                variables = self.training.variables(state, index)
                started = time.monotonic() - seconds
                self.rows += attacked_rows(job, epoch, variables, train, started)
        return {}
