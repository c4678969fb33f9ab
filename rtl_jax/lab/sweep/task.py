"""The task `sweep`, from the plan to the rows."""

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.sweep.executors import EXECUTORS
from rtl_jax.lab.sweep.grid import Cell, cells, groups
from rtl_jax.lab.sweep.plan import Plan, member_of, plan, shares
from rtl_jax.lab.sweep.plots import draw_sweep
from rtl_jax.runtime.paths import absolute
from rtl_jax.runtime.progress import bar


def run_sweep(
    experiment: Experiment, workdir: epath.PathLike, *, says: bool = True
) -> pd.DataFrame:
    """Run the unfinished part of the grid of `experiment.sweep`; return all its rows.

    Finished runs are not repeated; interrupted ones start over. A dry run only prints the plan and
    returns the existing rows. With `sweep.skip_missing`, missing sources and targets are skipped.
    Without `says`, neither the plan nor the figure's path is printed, for tasks of several sweeps.
    Raises UserError for user-fixable errors.
    """
    workdir = absolute(workdir)
    planned = plan(experiment, workdir)
    if says:
        print(planned.describe())
    if experiment.dry_run:
        return in_order(member_of(_rows(workdir), experiment), experiment.sweep.sources)
    parts = groups(planned.present() if experiment.sweep.skip_missing else cells(experiment))
    if not parts:
        raise UserError(
            f"nothing in this sweep can run, since these are missing: {', '.join(planned.absent)}"
        )
    runs = _execute(parts, planned, experiment, workdir)
    rows = _rows(workdir)
    rows = in_order(rows[rows["run"].isin(runs)], experiment.sweep.sources)
    if draw_sweep(workdir / "sweep.png", rows) and says:
        print(f"a figure is in {workdir / 'sweep.png'}")
    return rows


def _execute(
    parts: Sequence[Sequence[Cell]],
    planned: Plan,
    experiment: Experiment,
    workdir: epath.Path,
) -> set[str]:
    """Run groups of cells with one progress bar, and return the names of all runs."""
    runs: set[str] = set()
    works = planned.works()
    each = shares([works[cell] for cell in part] for part in parts)
    execute = EXECUTORS[experiment.executor]
    with bar("sweep", sum(each), leave=True, unit="") as progress:
        finished = 0.0
        progress.give(each[0])
        for index, names in execute(parts, experiment, os.fspath(workdir)):
            runs |= set(names)
            finished += each[index]
            progress.move_to(finished)
            if index + 1 < len(parts):
                progress.give(each[index + 1])
    return runs


def in_order(rows: pd.DataFrame, sources: Sequence[str]) -> pd.DataFrame:
    """Sort rows by the sweep's order of sources, the first of which the others are compared with.

    A work directory returns rows in the order of their runs' names, which is arbitrary.
    """
    places = {source: index for index, source in enumerate(sources)}
    order = np.argsort([places.get(source, 0) for source in rows["source"]], kind="stable")
    return rows.iloc[order].reset_index(drop=True)


def _rows(workdir: epath.Path) -> pd.DataFrame:
    return results.read_rows(workdir) if results.finished(workdir) else results.frame([])
