"""Send the rows of finished runs to trackers as well: TensorBoard, Weights & Biases, MLflow.

A tracker is one function, in a module of this folder or in the entry point group
`rtl_jax.trackers` of any installed package, that is called once for each run:

    def log_run(workdir: epath.Path, run: str, settings: Mapping, rows: Sequence[Mapping]) -> None

`settings` is the run's experiment as nested dictionaries; `rows` follow `lab.results.SCHEMA`, and
`trackers.measures:measures` extracts their measurements by name. Rows in the work directory remain
the record: they are written first, and nothing is read back from a tracker.
"""

import importlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from etils import epath

from rtl_jax.errors import UserError

LogRun = Callable[[epath.Path, str, Mapping[str, Any], Sequence[Mapping[str, Any]]], None]

# The trackers of this folder, and the package that each needs.
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


def require_trackers(names: Iterable[str]) -> None:
    """Raise UserError for a tracker that is unknown or whose package is not installed."""
    for name in names:
        _tracker(name)


def track(workdir: epath.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Pass the rows of whole runs to the trackers that their settings name.

    A tracker that fails, such as when its server is down, only causes a warning: the rows are in
    the work directory.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        runs.setdefault(row["run"], []).append(row)
    for run, members in runs.items():
        settings = json.loads(members[0]["config"])
        for name in settings.get("trackers", ()):
            try:
                _tracker(name)(epath.Path(workdir), run, settings, members)
            except Exception as error:  # any from a client library or its HTTP library
                reason = (str(error).splitlines() or [""])[0][:200]
                print(
                    f"warning: tracker {name} did not accept run {run} "
                    f"({type(error).__name__}: {reason}); its rows are kept in {workdir}"
                )


def _tracker(name: str) -> LogRun:
    if name in PACKAGES:
        package = PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"trackers: {name!r} needs the package {package}: pip install {package}, or leave "
                "it out"
            )
        return importlib.import_module(f"{__name__}.{name}").log_run
    others = {entry.name: entry for entry in entry_points(group="rtl_jax.trackers")}
    if name not in others:
        known = ", ".join(map(repr, sorted({*PACKAGES, *others})))
        raise UserError(f"trackers: expected some of {known}, received {name!r}")
    return others[name].load()
