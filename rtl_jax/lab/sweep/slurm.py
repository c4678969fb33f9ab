"""A sweep's groups of cells as jobs on a Slurm cluster, by submitit."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.sweep.cells import run_cells
from rtl_jax.lab.sweep.grid import Cell
from rtl_jax.runtime.switches import pinned

# Seconds between polls of the jobs; Slurm should not be queried more often.
POLL = {"slurm": 15.0, "local": 0.5}


def slurm(
    groups: Sequence[Sequence[Cell]], experiment: Experiment, workdir: str
) -> Iterator[tuple[int, list[str]]]:
    """Submit the groups as one array of jobs and wait for them; logs are in WORKDIR/slurm.

    A job that is preempted or times out is requeued and skips runs that have rows. Jobs that are
    unfinished when this ends, for whatever reason, are cancelled. Yields each group's index and the
    names of its runs as it finishes.

    Raises UserError if submitit or Slurm is missing, a submission is refused, a job is lost, or a
    job raises a UserError.
    """
    try:
        import submitit
        from submitit.core.utils import FailedSubmissionError
    except ImportError as error:
        raise UserError(
            "executor: 'slurm' needs the package submitit: pip install 'rtl-jax[slurm]', or choose "
            "'local'"
        ) from error

    class Task(submitit.helpers.Checkpointable):
        """Requeued with the same arguments; returns user-fixable errors instead of raising them."""

        def __call__(self, cells: Sequence[Cell]) -> list[str] | UserError:
            try:
                with pinned():  # a job would use its own shell's switches
                    return run_cells(cells, experiment.sweep, workdir)
            except UserError as error:
                return error

    asked = experiment.slurm
    jobs: list[Any] = []
    try:
        executor = submitit.AutoExecutor(Path(workdir) / "slurm" / "%j", cluster=asked.cluster)
        executor.update_parameters(
            name="rtl_jax",
            timeout_min=asked.minutes,
            gpus_per_node=asked.gpus,
            cpus_per_task=asked.cpus,
            mem_gb=asked.memory_gib,
            slurm_partition=asked.partition,
            slurm_account=asked.account,
            slurm_array_parallelism=asked.at_once,
        )
        with executor.batch():
            jobs = [executor.submit(Task(), cells) for cells in groups]
    except (RuntimeError, OSError, FailedSubmissionError) as error:
        raise UserError(f"executor: Slurm did not accept the jobs ({error})") from error
    try:
        places = {job.job_id: index for index, job in enumerate(jobs)}
        for job in submitit.helpers.as_completed(jobs, poll_frequency=POLL[asked.cluster]):
            yield places[job.job_id], _result(job)
    finally:
        for job in jobs:
            if not job.done():
                job.cancel()


def _result(job: Any) -> list[str]:
    """Return a job's result. Raises UserError if it returned one, failed, or was lost."""
    error = job.exception()
    if error is not None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        # The last exception in the error's traceback or, without one, the state that Slurm reports,
        # such as OUT_OF_MEMORY, which submitit names in its second line.
        raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
        state = [line for line in lines[:2] if "(state: " in line]
        said = (raised or state or lines[:1])[-1][:200]
        raise UserError(
            f"executor: job {job.job_id} has failed ({said}): its log is {job.paths.stderr}; run "
            "the same command again to resume"
        ) from error
    result = job.result()
    if isinstance(result, UserError):
        raise UserError(str(result)) from result
    return result
