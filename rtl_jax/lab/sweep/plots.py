"""The figure of a sweep: test accuracy against the number of images, a line per source."""

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.lab.plotting import save, subplots
from rtl_jax.lab.results import blocks_name, last_epochs
from rtl_jax.lab.statistics import independent, mean_interval, sizes
from rtl_jax.lab.sweep.table import named, varied
from rtl_jax.runtime.paths import short_names


def draw_sweep(path: epath.Path, rows: pd.DataFrame) -> bool:
    """Draw means with 95 % intervals, a panel per target and number of blocks, as PNG.

    Returns whether anything was drawn: a sweep with a single size has nothing to draw.
    """
    last = last_epochs(rows.assign(num_images=sizes(rows)))
    if last.empty or last["num_images"].nunique() < 2:
        return False
    sources = list(dict.fromkeys(last["source"]))
    known, varying = dict(zip(sources, short_names(sources), strict=True)), varied(last)
    panels = list(last.groupby(["dataset", "blocks"], dropna=False))
    figure, grid = subplots(4 * len(panels), 3.2, 1, len(panels))
    for axes, ((dataset, blocks), cell) in zip(grid[0], panels, strict=True):
        for (source, *values), own in cell.groupby(["source", *varying], sort=False, dropna=False):
            by_size = own.groupby("num_images")
            means = np.array([mean_interval(independent(each)) for _, each in by_size])
            label = ", ".join([known[source], *map(named, varying, values)])
            axes.errorbar(list(by_size.groups), *means.T, marker="o", capsize=3, label=label)
        axes.set_xscale("log")
        axes.set_xticks(sorted(set(cell["num_images"])))
        axes.set_xticklabels([str(size) for size in sorted(set(cell["num_images"]))])
        axes.minorticks_off()
        axes.set_title(f"{dataset}, {blocks_name(blocks)}")
        axes.set_xlabel("training images")
        axes.grid(alpha=0.3)
    grid[0, 0].set_ylabel("test accuracy, %")
    grid[0, 0].legend()
    save(figure, path)
    return True
