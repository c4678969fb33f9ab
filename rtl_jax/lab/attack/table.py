"""An attack's table."""

import pandas as pd

from rtl_jax.lab.results import blocks_name, corruption_of
from rtl_jax.lab.statistics import wilson_interval

# Columns of settings that networks of a sweep may differ in, besides those that are always named.
_VARIED = ("learning_rate", "weight_decay", "optimizer", "head_fit", "beta", "fold")


def summarize(rows: pd.DataFrame) -> str:
    """Tabulate robust accuracy by radius, with 95 % intervals and any warnings.

    Several networks (`attack.runs`) have a table each, under its name.
    """
    if rows["run"].nunique() == 1:
        return _table(rows)
    parts, varying = [], [name for name in _VARIED if rows[name].nunique(dropna=False) > 1]
    for _, group in rows.groupby("run", sort=False):
        one = group.iloc[0]
        blocks = blocks_name(one.blocks)
        images = "all" if pd.isna(one.num_images) else f"{one.num_images}"
        perturbed = pd.notna(one.perturbation) and one.perturbation != "none"
        how = f", trained with {one.perturbation}, eps {one.train_eps:.4g}" if perturbed else ""
        how += "".join(f", {name}={one[name]}" for name in varying if pd.notna(one[name]))
        head = f"{one.source} -> {one.dataset}, {blocks}, {images} images{how}, seed {one.seed}"
        parts.append(f"{head}\n{_table(group)}")
    return "\n".join(parts)


def _table(rows: pd.DataFrame) -> str:
    if rows["method"].iloc[0] == "corruptions":
        return _corruptions(rows)
    certified = rows["method"].iloc[0] == "smoothing"  # smoothing has no loss
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


def _corruptions(rows: pd.DataFrame) -> str:
    """Tabulate accuracy by corruption and severity, and without any, with its 95 % interval."""
    found = [corruption_of(variant) for variant in rows["variant"]]
    rows = rows.assign(
        name=[one and one.name for one in found], severity=[one and one.severity for one in found]
    )
    clean, rest = rows[rows["name"].isna()].iloc[0], rows[rows["name"].notna()]
    table = rest.pivot(index="name", columns="severity", values="accuracy")
    table = table.loc[rest["name"].unique()]
    lines = [f"{'severity':20}" + "".join(f"{int(one):8d}" for one in table) + f"{'mean':>8}"]
    for name, values in table.iterrows():
        shares = "".join(f"{share:7.1f}%" for share in [*values, values.mean()])
        lines.append(f"{name:20}{shares}")
    low, high = wilson_interval(clean.accuracy, clean.num_test_images)
    lines.append(
        f"without a corruption {clean.accuracy:.2f}% ({low:.1f} to {high:.1f}), mean over "
        f"corruptions {rest['accuracy'].mean():.2f}%, of {clean.num_test_images} images"
    )
    return "\n".join(lines)
