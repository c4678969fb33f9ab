"""The table of roughness."""

import pandas as pd

from rtl_jax.runtime.paths import short_names


def summarize(rows: pd.DataFrame) -> str:
    """Tabulate the roughness of each source."""
    names = short_names(list(rows["source"]))
    width = max(8, *(len(name) + 2 for name in names))
    lines = [f"{'source':{width}}{'shows':>12}{'roughness':>12}"]
    for name, row in zip(names, rows.itertuples(), strict=True):
        lines.append(f"{name:{width}}{row.method:>12}{row.roughness:12.2f}")
    return "\n".join([*lines, "total variation per unit of absolute value; noise has 2.83"])
