"""The table of a source's training."""

import pandas as pd


def summarize(rows: pd.DataFrame) -> str:
    """Tabulate validation accuracy by epoch, clean and at every radius."""
    lines = [f"{'epoch':>7}{'seconds':>10}{'train loss':>12}{'clean':>9}  attacked"]
    for epoch, group in rows.groupby("epoch"):
        clean, attacked = group[group["eps"].isna()].iloc[0], group[group["eps"].notna()]
        robust = (f"{row.accuracy:.1f}% at {row.eps:.3g}" for row in attacked.itertuples())
        lines.append(
            f"{epoch:7d}{clean.seconds:10.0f}{clean.train_loss:12.4g}{clean.accuracy:8.2f}%  "
            + ", ".join(robust)
        )
    return "\n".join(lines)
