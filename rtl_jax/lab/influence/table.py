"""The table of influence."""

import pandas as pd


def summarize(rows: pd.DataFrame) -> str:
    """Tabulate how often influential training images share the test image's label.

    With flipped labels, tabulate how many each ranking finds.
    """
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
