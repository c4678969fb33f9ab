"""Run an experiment of any task and print what came out."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

import pandas as pd
from etils import epath

from rtl_jax.config import Experiment

if TYPE_CHECKING:
    from rtl_jax.models.zoo import Convert

# The function that does a task, and the one that puts the rows it returns into words. By name, and
# imported when the task runs: a report is written without JAX.
TASKS = {
    "finetune": ("rtl_jax.transfer.finetune:finetune", "rtl_jax.transfer.summary:summarize"),
    "sweep": ("rtl_jax.sweep.runner:sweep", "rtl_jax.sweep.summary:summarize"),
    "attack": (
        "rtl_jax.attacks.robustness:measure_robustness",
        "rtl_jax.attacks.summary:summarize",
    ),
    "pretrain": ("rtl_jax.pretrain.train:pretrain", "rtl_jax.pretrain.summary:summarize"),
    "influence": ("rtl_jax.influence.task:influence", "rtl_jax.influence.summary:summarize"),
    "visualize": (
        "rtl_jax.analysis.visualize:visualize",
        "rtl_jax.analysis.summary:summarize",
    ),
    "my_images": ("rtl_jax.images.task:my_images", "rtl_jax.sweep.summary:summarize"),
    "predict": ("rtl_jax.predict.task:predict", "rtl_jax.predict.task:summarize"),
    "report": ("rtl_jax.report.task:report", "rtl_jax.report.task:summarize"),
}


def run(
    experiment: Experiment, workdir: epath.PathLike, convert: "Convert | None" = None
) -> pd.DataFrame:
    """Run `experiment.task` in a work directory, print its table, return its rows.

    `convert` turns a torch file or hf:REPO/FILE into a network's directory; without it only
    converted networks can be read. Raises UserError for what the user can mend.
    """
    if experiment.task != "report":
        from rtl_jax import devices

        devices.join_hosts()
        devices.enable_compilation_cache()
    task, summarize = map(resolve_name, TASKS[experiment.task])
    rows: pd.DataFrame = task(experiment, workdir, convert)
    print(summarize(rows))
    return rows
