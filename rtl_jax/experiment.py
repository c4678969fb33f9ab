"""Run an experiment of any task and print what came out."""

import pandas as pd
from etils import epath

from rtl_jax import devices
from rtl_jax.config import Experiment
from rtl_jax.models.zoo import Convert
from rtl_jax.transfer.finetune import finetune

TASKS = {"finetune": finetune}


def run(
    experiment: Experiment, workdir: epath.PathLike, convert: Convert | None = None
) -> pd.DataFrame:
    """Run `experiment.task` in a work directory, print its table, return its rows.

    `convert` turns a torch file or hf:REPO/FILE into a network's directory; without it only
    converted networks can be read. Raises UserError for what the user can mend.
    """
    devices.enable_compilation_cache()
    rows = TASKS[experiment.task](experiment, workdir, convert)
    print(summary(rows))
    return rows


def summary(rows: pd.DataFrame) -> str:
    """The table on the terminal: test accuracy first, last and best, and what it cost."""
    transfer = rows[rows["method"] == "transfer"].sort_values("epoch")
    best = transfer.loc[transfer["accuracy"].idxmax()]
    lines = [
        f"{'':14}{'epoch':>7}{'accuracy':>11}{'test loss':>12}{'train loss':>12}{'seconds':>10}"
    ]
    for name, row in (("first", transfer.iloc[0]), ("last", transfer.iloc[-1]), ("best", best)):
        lines.append(
            f"{name:14}{row.epoch:7d}{row.accuracy:10.2f}%{row.loss:12.4g}"
            f"{row.train_loss:12.4g}{row.seconds:10.1f}"
        )
    for _, row in rows[rows["method"] == "linear_pixels"].iterrows():
        lines.append(f"{'linear, pixels':14}{'':7}{row.accuracy:10.2f}%{row.loss:12.4g}")
    return "\n".join(lines)
