"""An attack's table."""

import pandas as pd

from rtl_jax.lab.statistics import wilson_interval


def summarize(rows: pd.DataFrame) -> str:
    """Robust accuracy at every radius, with its 95 % interval; and what makes it doubtful.

    With several networks (`attack.runs`), one table each, beneath its name.
    """
    if rows["run"].nunique() == 1:
        return _table(rows)
    parts = []
    for _, group in rows.groupby("run", sort=False):
        one = group.iloc[0]
        blocks = "every block" if pd.isna(one.blocks) else f"{one.blocks} blocks"
        images = "all" if pd.isna(one.num_images) else f"{one.num_images}"
        head = f"{one.source} -> {one.dataset}, {blocks}, {images} images, seed {one.seed}"
        parts.append(f"{head}\n{_table(group)}")
    return "\n".join(parts)


def _table(rows: pd.DataFrame) -> str:
    certified = rows["method"].iloc[0] == "smoothing"  # which has no loss
    measured = f"{'certified' if certified else 'robust'} accuracy"
    lines = [f"{'eps':>10}{measured:>20}{'95 % interval':>18}{'' if certified else '      loss'}"]
    for _, row in rows.sort_values("eps").iterrows():
        low, high = wilson_interval(row.accuracy, row.num_test_images)
        ends = f"{low:.1f} to {high:.1f}"
        loss = "" if certified else f"{row.loss:10.4g}"
        lines.append(f"{row.eps:10.4g}{row.accuracy:19.2f}%{ends:>18}{loss}")
    doubtful = rows[rows["warnings"].fillna("") != ""].sort_values("eps")
    lines += [f"warning at eps {row.eps:.4g}: {row.warnings}" for _, row in doubtful.iterrows()]
    return "\n".join(lines)
