"""Folders of small pictures whose classes a network can distinguish by their colour."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 220), "green": (40, 200, 60), "red": (220, 40, 50)}


def picture(name: str, index: int, size: tuple[int, int] = (10, 12)) -> Image.Image:
    """Make picture `index` of a class: its colour with noise of its own."""
    draw = np.random.default_rng([index, len(name)])
    pixels = np.array(COLOURS[name]) + draw.normal(0, 50, (*size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def photos(root: Path, counts: dict[str, int]) -> Path:
    """Write a folder for each class with the given number of PNGs."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            picture(name, index).save(root / name / f"{index:03}.png")
    return root
