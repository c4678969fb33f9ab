"""The skeleton of every run: found again by its name, done once, its rows written last.

A run is named by its content (`Experiment.fingerprint`) and has rows in WORKDIR/rows and its own
files in WORKDIR/runs/NAME. A run with rows is finished, and is not repeated:

    with open_run(workdir, name) as run:
        if run.pending:
            run.finish(compute(run.directory))
    return run.rows()
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from etils import epath

from rtl_jax.lab import results
from rtl_jax.lab.trackers import track
from rtl_jax.runtime.paths import absolute


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in a work directory; `pending` unless it has left everything required of it."""

    name: str
    workdir: epath.Path
    pending: bool
    scratch: str | None = None  # a folder among its files that serves only to resume it

    @property
    def directory(self) -> epath.Path:
        """The directory of its files."""
        return self.workdir / "runs" / self.name

    def finish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write its rows, remove the files for resuming it, and notify the trackers."""
        rows = list(rows)
        results.write_rows(self.workdir, self.name, rows)
        self.clean()
        track(self.workdir, rows)

    def clean(self) -> None:
        """Remove the files for resuming it, if any."""
        if self.scratch is not None and (self.directory / self.scratch).exists():
            (self.directory / self.scratch).rmtree()

    def rows(self) -> pd.DataFrame:
        """Read its rows."""
        table = results.read_rows(self.workdir)
        return table[table["run"] == self.name].reset_index(drop=True)


@contextlib.contextmanager
def open_run(
    workdir: epath.PathLike, name: str, *, keeps: str | None = None, scratch: str | None = None
) -> Iterator[Run]:
    """Open the run of that name in a work directory, with its own folder `scratch` for resuming.

    It is finished if it has rows and, with `keeps`, a file or folder of that name in its
    directory.
    """
    place = absolute(workdir)
    path = results.rows_path(place, name)
    kept = keeps is None or (place / "runs" / name / keeps).exists()
    # A sweep writes the rows of several runs to one file.
    known = kept and (path.exists() or name in results.finished(place))
    run = Run(name, place, pending=not known, scratch=scratch)
    if not run.pending:
        run.clean()  # it may have been interrupted after writing rows
        print(f"run {name} is finished; its rows are in {path.parent}")
    yield run
