"""Run an experiment of any task and print what came out.

A task NAME is the folder `lab/NAME`: `task.py` has `run_NAME`, from an experiment and a
work directory to rows, and `table.py` has `summarize`, which puts rows into words. They are
imported when the task runs: a report is written without JAX.
"""

from importlib import import_module

import pandas as pd
from etils import epath

from rtl_jax.lab.config import Experiment


def run(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Run `experiment.task` in a work directory, print its table, return its rows.

    Raises UserError for user-fixable errors.
    """
    if experiment.task != "report":
        from rtl_jax.runtime import devices

        devices.join_hosts()
        devices.enable_compilation_cache()
    folder = f"rtl_jax.lab.{experiment.task}"
    task = getattr(import_module(f"{folder}.task"), f"run_{experiment.task}")
    rows: pd.DataFrame = task(experiment, workdir)
    print(import_module(f"{folder}.table").summarize(rows))
    return rows
