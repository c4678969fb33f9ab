"""A prediction's table."""

import pandas as pd


def counted(pictures: int) -> str:
    """Return a number of images in words."""
    return "1 image" if pictures == 1 else f"{pictures:,} images"


def summarize(rows: pd.DataFrame) -> str:
    """Say where the predictions are."""
    (row,) = rows.itertuples()
    return f"predicted {counted(row.pictures)} in {row.seconds:.1f} s: {row.output}"
