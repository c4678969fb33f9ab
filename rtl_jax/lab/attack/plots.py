"""Figures of an attack: accuracy against the radius, and the perturbed images."""

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.attacks.registry import display_name
from rtl_jax.attacks.threats import THREATS
from rtl_jax.lab.config import Attack
from rtl_jax.lab.plotting import save, subplots
from rtl_jax.lab.statistics import wilson_interval


def draw_curve(path: epath.Path, settings: Attack, rows: pd.DataFrame) -> None:
    """Plot robust accuracy against eps, with 95 % Wilson intervals, as PNG at `path`."""
    rows = rows.sort_values("eps")
    pairs = zip(rows["accuracy"], rows["num_test_images"], strict=True)
    low, high = np.transpose([wilson_interval(*pair) for pair in pairs])
    figure, grid = subplots(5, 3.5)
    axes = grid[0, 0]
    axes.fill_between(rows["eps"], low, high, alpha=0.2, linewidth=0)
    axes.plot(rows["eps"], rows["accuracy"], marker="o")
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"{THREATS[settings.norm].display_name} eps, pixels in [0, 1]")
    if settings.method == "smoothing":
        name, measured = f"smoothed with sigma {settings.sigma:g}", "certified"
    else:
        name, measured = display_name(settings.method, **vars(settings)), "robust"
    axes.set_ylabel(f"{measured} accuracy, %")
    axes.set_title(f"{name}, {int(rows['num_test_images'].iloc[0])} images")
    axes.grid(alpha=0.3)
    save(figure, path)


def draw_images(path: epath.Path, settings: Attack, shown: np.ndarray, success: np.ndarray) -> None:
    """Draw the first images [E, S, H, W, 3] at every radius, misclassified ones framed in red."""
    radii, number = shown.shape[:2]
    figure, grid = subplots(1.2 * number, 1.2 * radii + 0.3, radii, number)
    for row, eps in enumerate(settings.eps):
        for column in range(number):
            axes = grid[row, column]
            axes.imshow(shown[row, column].astype(np.float32), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set(color="red" if success[row, column] else "none", linewidth=2)
        grid[row, 0].set_ylabel(f"{eps:.3g}")
    save(figure, path)
