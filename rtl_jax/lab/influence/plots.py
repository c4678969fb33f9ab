"""The paper's figures on influence, and those of wrong labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.data import ImageSet
from rtl_jax.lab.plotting import save, subplots

_CELLS = 400  # maximum rows and columns of a drawn matrix; more are averaged


def draw_examples(
    path: epath.Path,
    train: ImageSet,
    test: ImageSet,
    shown: np.ndarray,
    best: Mapping[str, np.ndarray],
    class_names: Sequence[str],
) -> None:
    """Draw Figure 6: test images and, below each, every source's most influential training images.

    `shown` [S] are rows of test images, and `best` has each source's rows [S, k] of training
    images. A training image is framed in green if its label is the test image's, else in red.
    """
    sources = [(name, rank) for name, rows in best.items() for rank in range(rows.shape[1])]
    height = 1 + len(sources)
    figure, grid = subplots(1.1 * len(shown) + 0.4, 1.25 * height, height, len(shown))
    for column, row in enumerate(shown):
        label = test.labels[row]
        image(grid[0][column], test.images[row], class_names[label])
        for line, (name, rank) in enumerate(sources, start=1):
            axes, found = grid[line][column], best[name][column, rank]
            color = "tab:green" if train.labels[found] == label else "tab:red"
            image(axes, train.images[found], class_names[train.labels[found]], color)
    label_lines(grid, ["test image", *(f"{name}, {rank + 1}" for name, rank in sources)])
    save(figure, path)


def draw_matrices(
    path: epath.Path,
    scores: Mapping[str, np.ndarray],
    test_labels: np.ndarray,
    train_labels: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """Draw Figure 7a: the scores [T, n] of each source, divided by their matrix norm.

    Test and training images are sorted by label; darker is larger.
    """
    figure, grid = subplots(4.6 * len(scores) + 0.4, 4.4, 1, len(scores))
    rows, columns = (np.argsort(labels, kind="stable") for labels in (test_labels, train_labels))
    for axes, (name, values) in zip(grid[0], scores.items(), strict=True):
        cells = _averaged(values, rows, columns) / np.linalg.norm(values)
        bound = np.quantile(np.abs(cells), 0.98)  # a few large scores would leave the rest grey
        drawn = axes.imshow(cells, cmap="Greys", vmin=-bound, vmax=bound, aspect="auto",
                            extent=(0, 1, 1, 0), interpolation="nearest")  # fmt: skip
        axes.set_title(name)
        _label_ticks(axes.set_xticks, train_labels, class_names, rotation=60)
        _label_ticks(axes.set_yticks, test_labels, class_names)
        axes.set_xlabel("training images")
        figure.colorbar(drawn, ax=axes, shrink=0.8, label="influence / matrix norm")
    grid[0][0].set_ylabel("test images")
    save(figure, path)


def draw_matches(path: epath.Path, matches: Mapping[str, np.ndarray], chance: float) -> None:
    """Draw Figure 7b: how often the k-th most influential image has the test image's label.

    It shows the percentage of test images against k, for each source; `chance` is the percentage
    for a random training image.
    """
    figure, grid = subplots(5, 3.5)
    axes = grid[0][0]
    for name, values in matches.items():
        axes.plot(np.arange(1, len(values) + 1), values, label=name)
    axes.axhline(chance, color="grey", linestyle=":", label="a random image")
    axes.set_xlabel("k, the rank of a training image")
    axes.set_ylabel("label matches, %")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def draw_suspects(
    path: epath.Path,
    images: np.ndarray,
    labels: Sequence[str],
    predictions: Sequence[str],
    flipped: np.ndarray | None,
) -> None:
    """Draw training images, the most suspicious first, titled with label and prediction.

    Those whose labels were flipped on purpose are framed in red.
    """
    columns = 8
    lines = -(-len(images) // columns)
    figure, grid = subplots(1.3 * columns, 1.6 * lines, lines, columns)
    for axes in grid.flat:
        axes.axis("off")
    for index, (axes, pixels) in enumerate(zip(grid.flat, images, strict=False)):
        axes.axis("on")
        red = flipped is not None and flipped[index]
        title = f"{labels[index]}\n(as: {predictions[index]})"
        image(axes, pixels, title, "tab:red" if red else None)
    save(figure, path)


def draw_recall(path: epath.Path, rows: pd.DataFrame) -> None:
    """Plot the share of flipped labels found against the share of images inspected."""
    figure, grid = subplots(5, 3.5)
    axes = grid[0][0]
    for method, group in rows.groupby("method", sort=False):
        group = group.sort_values("inspected")
        axes.plot(group["inspected"], group["recall"], marker="o", label=method)
    axes.plot([0, 100], [0, 100], color="grey", linestyle=":", label="at random")
    axes.set_xlabel("training images inspected, %")
    axes.set_ylabel("flipped labels found, %")
    axes.set_xlim(0, rows["inspected"].max())
    axes.set_ylim(0, 101)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    save(figure, path)


def label_lines(grid: np.ndarray, lines: Sequence[str]) -> None:
    """Label each line of images on the left."""
    for row, text in zip(grid, lines, strict=True):
        row[0].set_ylabel(text)


def image(axes: Any, pixels: np.ndarray, title: str, frame: str | None = None) -> None:
    """Draw uint8 pixels [H, W, 1 or 3] with a title and, if a colour is given, a frame."""
    grey = pixels.shape[-1] == 1
    axes.imshow(pixels[..., 0] if grey else pixels, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=7)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=frame or "none", linewidth=2)


def _averaged(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Reorder a matrix and average it to at most _CELLS a side, one band of rows at a time."""
    bands = np.array_split(rows, min(len(rows), _CELLS))
    edges = np.linspace(0, len(columns), min(len(columns), _CELLS) + 1).astype(int)
    means = [np.add.reduceat(values[np.sort(band)].mean(0)[columns], edges[:-1]) for band in bands]
    return np.stack(means) / np.diff(edges)


def _label_ticks(
    set_ticks: Any, labels: np.ndarray, class_names: Sequence[str], **text: Any
) -> None:
    """Put class names in the middle of each class's part of [0, 1], unless there are many."""
    counts = np.bincount(labels, minlength=len(class_names)) / len(labels)
    middles = np.cumsum(counts) - counts / 2
    few = len(class_names) <= 20
    set_ticks(middles if few else [], list(class_names) if few else [], fontsize=7, **text)
