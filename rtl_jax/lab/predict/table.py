"""A prediction's table."""

import pandas as pd


def summarize(rows: pd.DataFrame) -> str:
    """Where the predictions are."""
    (row,) = rows.itertuples()
    pictures = "1 picture" if row.pictures == 1 else f"{row.pictures:,} pictures"
    return f"predicted {pictures} in {row.seconds:.1f} s: {row.output}"
