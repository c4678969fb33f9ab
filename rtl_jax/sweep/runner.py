"""A sweep from its plan to its rows: `--config.task=sweep`."""

import os
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax import results
from rtl_jax.config import Experiment
from rtl_jax.errors import UserError
from rtl_jax.models.zoo import Convert
from rtl_jax.paths import absolute
from rtl_jax.sweep.executors import EXECUTORS
from rtl_jax.sweep.figures import draw_sweep
from rtl_jax.sweep.grid import cells, groups
from rtl_jax.sweep.plan import member_of, plan


def sweep(
    experiment: Experiment, workdir: epath.PathLike, convert: Convert | None = None
) -> pd.DataFrame:
    """Run the grid of `experiment.sweep`, or what is left of it, and return its rows.

    A dry run only says what there is to do, and returns the rows that there are. Otherwise
    finished runs are not repeated, and one that was interrupted starts again. With
    `sweep.skip_missing` it goes on without the sources and targets that are not there.
    Raises UserError for what the user can mend.
    """
    workdir = absolute(workdir)
    planned = plan(experiment, workdir)
    print(planned.describe())
    if experiment.dry_run:
        return member_of(_rows(workdir), experiment)
    parts = groups(planned.present() if experiment.sweep.skip_missing else cells(experiment))
    if not parts:
        raise UserError(f"nothing of this sweep is there: {', '.join(planned.absent)}")
    execute = EXECUTORS[experiment.executor]
    runs: set[str] = set()
    started = time.monotonic()
    for number, names in enumerate(
        execute(parts, experiment.sweep, os.fspath(workdir), convert), start=1
    ):
        runs |= set(names)
        minutes = (time.monotonic() - started) / 60
        print(f"{number} of {len(parts)} groups of cells have finished after {minutes:.1f} min")
    rows = _rows(workdir)
    rows = in_order(rows[rows["run"].isin(runs)], experiment.sweep.sources)
    if draw_sweep(workdir / "sweep.png", rows):
        print(f"a figure is in {workdir / 'sweep.png'}")
    return rows


def in_order(rows: pd.DataFrame, sources: Sequence[str]) -> pd.DataFrame:
    """Rows in the order in which the sweep names its sources: others are compared with the first.

    The rows of a work directory come in the order of their runs' names, which is any.
    """
    places = {source: index for index, source in enumerate(sources)}
    order = np.argsort([places.get(source, 0) for source in rows["source"]], kind="stable")
    return rows.iloc[order].reset_index(drop=True)


def _rows(workdir: epath.Path) -> pd.DataFrame:
    return results.read_rows(workdir) if results.finished(workdir) else results.frame([])
