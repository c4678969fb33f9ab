"""Run an experiment of any task and print what came out."""

import pandas as pd
from etils import epath

from rtl_jax import devices
from rtl_jax.attacks.figures import interval
from rtl_jax.attacks.robustness import measure_robustness
from rtl_jax.config import Experiment
from rtl_jax.models.zoo import Convert
from rtl_jax.transfer.finetune import finetune

TASKS = {"finetune": finetune, "attack": measure_robustness}


def run(
    experiment: Experiment, workdir: epath.PathLike, convert: Convert | None = None
) -> pd.DataFrame:
    """Run `experiment.task` in a work directory, print its table, return its rows.

    `convert` turns a torch file or hf:REPO/FILE into a network's directory; without it only
    converted networks can be read. Raises UserError for what the user can mend.
    """
    devices.enable_compilation_cache()
    rows = TASKS[experiment.task](experiment, workdir, convert)
    print(SUMMARIES[experiment.task](rows))
    return rows


def summarize_training(rows: pd.DataFrame) -> str:
    """Test accuracy first, last and best, what it cost, and the linear classifier's."""
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


def summarize_attack(rows: pd.DataFrame) -> str:
    """Robust accuracy at every radius, with its 95 % interval."""
    lines = [f"{'eps':>10}{'robust accuracy':>18}{'95 % interval':>18}{'loss':>10}"]
    for _, row in rows.sort_values("eps").iterrows():
        low, high = interval(row.accuracy, row.num_test_images)
        ends = f"{low:.1f} to {high:.1f}"
        lines.append(f"{row.eps:10.4g}{row.accuracy:17.2f}%{ends:>18}{row.loss:10.4g}")
    return "\n".join(lines)


SUMMARIES = {"finetune": summarize_training, "attack": summarize_attack}
