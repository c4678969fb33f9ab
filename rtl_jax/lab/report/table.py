"""The summary of a report on the terminal."""

import pandas as pd


def summarize(rows: pd.DataFrame) -> str:
    """Return how many rows and runs the report was made from."""
    return f"it shows {len(rows):,} rows of {rows['run'].nunique():,} runs"
