"""Executors of a sweep's groups of cells: this process, Ray workers or Slurm jobs.

A task is one group, whose cells share features. It leaves its results only in the work directory;
every worker must have access to that directory, the checkpoints and the data.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.sweep.cells import run_cells
from rtl_jax.lab.sweep.grid import Cell
from rtl_jax.lab.sweep.slurm import slurm
from rtl_jax.runtime.switches import pinned

Groups = Sequence[Sequence[Cell]]

# Retries of a task whose worker is lost.
RETRIES = 5
# A task's CPU cores on a cluster without accelerators.
CORES = 1


def local(groups: Groups, experiment: Experiment, workdir: str) -> Iterator[tuple[int, list[str]]]:
    """Run the groups in sequence; yield each one's index and the names of its runs."""
    blocks = None
    for index, cells in enumerate(groups):
        if blocks != (blocks := cells[0].experiment.transfer.blocks):
            # Programs of other shapes are no longer needed, and each takes memory maps, of which
            # a process may have 65,530.
            jax.clear_caches()
        yield index, run_cells(cells, experiment.sweep, workdir)


def ray(groups: Groups, experiment: Experiment, workdir: str) -> Iterator[tuple[int, list[str]]]:
    """Run the groups on the Ray cluster at RAY_ADDRESS, or on one started here.

    Each task has an accelerator, or a core if the cluster has none. A task whose worker is lost
    restarts on another and skips runs that have rows. Yields each group's index and the names of
    its runs as it finishes. Raises UserError if Ray is missing, and whatever a task raised.
    """
    try:
        import ray as cluster
    except ImportError as error:
        raise UserError(
            "executor: 'ray' needs the package ray: pip install 'rtl-jax[ray]', or choose 'local'"
        ) from error
    ours = not cluster.is_initialized()
    if ours:
        address = os.environ.get("RAY_ADDRESS")
        cluster.init(address=address, log_to_driver=False, configure_logging=False)
    try:
        accelerated = cluster.cluster_resources().get("GPU", 0) > 0
        needs: dict[str, Any] = {"num_gpus": 1} if accelerated else {"num_cpus": CORES}
        # Pinned, as a worker would use its own shell's switches.
        task = cluster.remote(max_retries=RETRIES, **needs)(pinned()(run_cells))
        waiting = [task.remote(cells, experiment.sweep, workdir) for cells in groups]
        places = {each: index for index, each in enumerate(waiting)}
        while waiting:
            finished, waiting = cluster.wait(waiting, num_returns=1)
            yield places[finished[0]], _result(cluster, finished[0])
    finally:
        if ours:
            cluster.shutdown()


def _result(cluster: Any, finished: Any) -> list[str]:
    """Return a task's result. Raises UserError if it raised one or was lost despite retries."""
    try:
        return cluster.get(finished)
    except cluster.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from error
        raise
    except cluster.exceptions.RayError as error:
        raise UserError(
            f"executor: a task was lost {RETRIES + 1} times ({type(error).__name__}): look at "
            "Ray's own logs, and run the same command again to resume"
        ) from error


EXECUTORS = {"local": local, "ray": ray, "slurm": slurm}
