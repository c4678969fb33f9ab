"""A prediction's table."""

import pandas as pd


def summarize(rows: pd.DataFrame) -> str:
    """Where the predictions are."""
    (row,) = rows.itertuples()
    return f"predicted {row.pictures:,} pictures in {row.seconds:.1f} s: {row.output}"
