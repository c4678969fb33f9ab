"""A fine-tuning's table."""

import numpy as np
import pandas as pd

from rtl_jax.lab.results import PIXEL_BASELINES


def summarize(rows: pd.DataFrame) -> str:
    """Tabulate the first, last and best evaluation, and the classifiers on raw pixels."""
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
    for method, name in PIXEL_BASELINES.items():
        for _, row in rows[rows["method"] == method].iterrows():
            loss = f"{row.loss:12.4g}" if np.isfinite(row.loss) else ""
            lines.append(f"{name:16}{'':5}{row.accuracy:10.2f}%{loss}")
    return "\n".join(lines)
