"""A grid of pictures: images in the first row, each network's results below."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from rtl_jax.lab.plotting import save, subplots


class Row(NamedTuple):
    """A row of pictures, float [N, H, W, 3] in [0, 1], with its name and optional titles."""

    name: str
    pictures: np.ndarray
    titles: Sequence[str] = ()


def draw_rows(path: epath.Path, rows: Sequence[Row]) -> None:
    """Draw rows of equally many pictures to a file."""
    number = len(rows[0].pictures)
    height = sum(1.3 if row.titles else 1.1 for row in rows)
    figure, grid = subplots(1.1 * number, height + 0.2, len(rows), number)
    for line, row in enumerate(rows):
        for column, picture in enumerate(row.pictures):
            axes = grid[line, column]
            axes.imshow(np.asarray(picture, np.float32), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row.titles:
                axes.set_title(row.titles[column], fontsize=6, pad=2)
        grid[line, 0].set_ylabel(row.name)
    save(figure, path)
