"""A prediction's table."""

import pandas as pd


def counted(pictures: int) -> str:
    """Return a number of pictures in words."""
    return "1 picture" if pictures == 1 else f"{pictures:,} pictures"


def summarize(rows: pd.DataFrame) -> str:
    """Say where the predictions are."""
    (row,) = rows.itertuples()
    return f"predicted {counted(row.pictures)} in {row.seconds:.1f} s: {row.output}"
