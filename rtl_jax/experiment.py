"""Run an experiment of any task and print what came out."""

import pandas as pd
from etils import epath

from rtl_jax import devices
from rtl_jax.attacks.figures import interval
from rtl_jax.attacks.robustness import measure_robustness
from rtl_jax.config import Experiment
from rtl_jax.influence.task import influence
from rtl_jax.models.zoo import Convert
from rtl_jax.pretrain.train import pretrain
from rtl_jax.sweep.runner import sweep
from rtl_jax.sweep.summary import summarize
from rtl_jax.transfer.finetune import finetune

TASKS = {
    "finetune": finetune,
    "sweep": sweep,
    "attack": measure_robustness,
    "pretrain": pretrain,
    "influence": influence,
}


def run(
    experiment: Experiment, workdir: epath.PathLike, convert: Convert | None = None
) -> pd.DataFrame:
    """Run `experiment.task` in a work directory, print its table, return its rows.

    `convert` turns a torch file or hf:REPO/FILE into a network's directory; without it only
    converted networks can be read. Raises UserError for what the user can mend.
    """
    devices.join_hosts()
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


def summarize_pretraining(rows: pd.DataFrame) -> str:
    """Validation accuracy by epoch, clean and at every radius."""
    lines = [f"{'epoch':>7}{'seconds':>10}{'train loss':>12}{'clean':>9}  attacked"]
    for epoch, group in rows.groupby("epoch"):
        clean, attacked = group[group["eps"].isna()].iloc[0], group[group["eps"].notna()]
        robust = (f"{row.accuracy:.1f}% at {row.eps:.3g}" for row in attacked.itertuples())
        lines.append(
            f"{epoch:7d}{clean.seconds:10.0f}{clean.train_loss:12.4g}{clean.accuracy:8.2f}%  "
            + ", ".join(robust)
        )
    return "\n".join(lines)


def summarize_influence(rows: pd.DataFrame) -> str:
    """How often the most influential training images have the test image's label; or, of labels
    that were flipped, how many are found."""
    if rows["recall"].notna().any():
        table = rows.pivot(index="inspected", columns="method", values="recall")
        lines = [f"{'inspected':>10}" + "".join(f"{name:>12}" for name in table.columns)]
        for inspected, found in table.iterrows():
            lines.append(f"{inspected:9.0f}%" + "".join(f"{value:11.1f}%" for value in found))
        return "\n".join([*lines, "of the flipped labels found by each ranking"])
    scored = rows[rows["top1_match"].notna()]
    lines = [f"{'source':32}{'scores':>20}{'top-1 match':>13}{'3 of top 5':>12}"]
    for _, row in scored.iterrows():
        name = row.source if len(row.source) < 32 else f"...{row.source[-28:]}"
        lines.append(f"{name:32}{row.method:>20}{row.top1_match:12.1f}%{row.top5_match:11.1f}%")
    return "\n".join(lines) if len(scored) else f"run {rows['run'].iloc[0]} is ranked"


SUMMARIES = {
    "finetune": summarize_training,
    "sweep": summarize,
    "attack": summarize_attack,
    "pretrain": summarize_pretraining,
    "influence": summarize_influence,
}
