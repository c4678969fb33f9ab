"""MLflow: one MLflow run for each run, at the place set by MLFLOW_TRACKING_URI and the like."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from rtl_jax.lab.trackers.measures import flat, measures


def log_run(
    workdir: epath.Path, run: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Log a run's settings as parameters, and its measures as metrics by epoch."""
    import mlflow

    tags = {"task": settings["task"], "workdir": str(workdir)}
    with mlflow.start_run(run_name=run, nested=True, tags=tags):
        mlflow.log_params({name: str(value)[:500] for name, value in flat(settings).items()})
        for epoch, found in measures(rows):
            # MLflow allows only these characters, and colons from later versions on.
            names = {re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII): name for name in found}
            mlflow.log_metrics({name: found[own] for name, own in names.items()}, step=epoch)
