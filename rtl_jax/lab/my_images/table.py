"""The table of the comparison that `my_images` makes."""

import pandas as pd

from rtl_jax.lab.sweep import table


def summarize(rows: pd.DataFrame) -> str:
    """The candidates, as a sweep's."""
    return table.summarize(rows)
