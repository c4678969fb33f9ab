"""Run an experiment of any task and print its results.

A task NAME is the folder `lab/NAME`: `task.py` has `run_NAME`, from an experiment and a work
directory to rows, and `table.py` has `summarize`, which describes rows in text. They are imported
when the task runs, so a report is written without JAX.
"""

import contextlib
from collections.abc import Iterator
from importlib import import_module

import pandas as pd
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.trackers import require_trackers
from rtl_jax.runtime.locks import exclusive

DRY = ("sweep", "my_images")  # tasks with a dry run


def run(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Run `experiment.task` in a work directory, print its table, and return its rows.

    The directory is locked against other processes meanwhile. Raises UserError for user-fixable
    errors.
    """
    require_trackers(experiment.trackers)  # before hours of computing
    if experiment.dry_run and experiment.task not in DRY:
        raise UserError(
            f"dry_run: expected false with task {experiment.task!r}: only {' and '.join(DRY)} say "
            "what they would do"
        )
    folder = f"rtl_jax.lab.{experiment.task}"
    task = getattr(import_module(f"{folder}.task"), f"run_{experiment.task}")
    reads = experiment.task == "report" or experiment.dry_run
    with contextlib.ExitStack() as stack:
        if experiment.task != "report":
            stack.enter_context(_prepared_jax(experiment))
        if not reads and _writes():
            stack.enter_context(exclusive(workdir))
        stack.enter_context(_memory())
        rows: pd.DataFrame = task(experiment, workdir)
    print(import_module(f"{folder}.table").summarize(rows))
    return rows


def _writes() -> bool:
    """Return whether this host writes; only the first one does."""
    import jax

    return jax.process_index() == 0


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Turn running out of memory into a UserError that names settings, as allocators do not."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said = str(error).strip().splitlines()[:1]
        raise UserError(
            f"memory has run out ({said[0] if said else 'of the host'}): lower the batch sizes or "
            "target.image_size; what is finished is kept"
        ) from error


@contextlib.contextmanager
def _prepared_jax(experiment: Experiment) -> Iterator[None]:
    """Set up JAX on all hosts, with a compilation cache and the same results in every shell."""
    from rtl_jax.runtime import devices, switches

    devices.join_hosts()
    if experiment.task == "sweep" and experiment.transfer.perturbs:
        devices.divide_cpu(experiment.sweep.side_by_side(experiment.target.num_images))
    devices.require_devices()
    devices.enable_compilation_cache()
    with switches.pinned():
        yield
