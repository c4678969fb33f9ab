"""Run an experiment of any task and print what came out."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

import pandas as pd
from etils import epath

from rtl_jax.lab.config import Experiment

if TYPE_CHECKING:
    from rtl_jax.models.sources import Convert

# The function that does a task, and the one that puts the rows it returns into words. By name, and
# imported when the task runs: a report is written without JAX.
TASKS = {
    "finetune": ("rtl_jax.lab.finetune.task:finetune", "rtl_jax.lab.finetune.table:summarize"),
    "sweep": ("rtl_jax.lab.sweep.task:sweep", "rtl_jax.lab.sweep.table:summarize"),
    "attack": (
        "rtl_jax.lab.attack.task:measure_robustness",
        "rtl_jax.lab.attack.table:summarize",
    ),
    "pretrain": ("rtl_jax.lab.pretrain.task:pretrain", "rtl_jax.lab.pretrain.table:summarize"),
    "influence": ("rtl_jax.lab.influence.task:influence", "rtl_jax.lab.influence.table:summarize"),
    "visualize": (
        "rtl_jax.lab.visualize.task:visualize",
        "rtl_jax.lab.visualize.table:summarize",
    ),
    "my_images": ("rtl_jax.lab.my_images.task:my_images", "rtl_jax.lab.sweep.table:summarize"),
    "predict": ("rtl_jax.lab.predict.task:predict", "rtl_jax.lab.predict.task:summarize"),
    "report": ("rtl_jax.lab.report.task:report", "rtl_jax.lab.report.task:summarize"),
}


def run(
    experiment: Experiment, workdir: epath.PathLike, convert: "Convert | None" = None
) -> pd.DataFrame:
    """Run `experiment.task` in a work directory, print its table, return its rows.

    `convert` turns a torch file or hf:REPO/FILE into a network's directory; without it only
    converted networks can be read. Raises UserError for what the user can mend.
    """
    if experiment.task != "report":
        from rtl_jax.runtime import devices

        devices.join_hosts()
        devices.enable_compilation_cache()
    task, summarize = map(resolve_name, TASKS[experiment.task])
    rows: pd.DataFrame = task(experiment, workdir, convert)
    print(summarize(rows))
    return rows
