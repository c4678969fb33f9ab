"""Digital corruptions: contrast, elastic distortion, pixelation and JPEG compression."""

import io
from functools import partial

import jax
import numpy as np
from jax.scipy.ndimage import map_coordinates
from PIL import Image

from rtl_jax.data.corruptions import linear
from rtl_jax.data.corruptions.registry import numbers, register

Generator = np.random.Generator


@register("contrast", numbers)
def contrast(image: jax.Array, share: jax.Array) -> jax.Array:
    """Move each channel towards its mean."""
    mean = image.mean((0, 1))
    return (image - mean) * share + mean


def _displaced(
    rng: Generator, height: int, width: int, size: float, smooth: float, affine: float
) -> tuple[np.ndarray, ...]:
    """Draw the source coordinates of both steps, float32 [2, H, W], rows and columns.

    size, smooth, affine: as in the table, as fractions of the shorter side.
    """
    side = min(height, width)
    first = _affine_places(rng.uniform(-affine * side, affine * side, (3, 2)), height, width)
    matrices = [
        linear.smoothing(n, smooth * side, mode="reflect", truncate=3) for n in (height, width)
    ]
    right, down = (
        size * side * matrices[0] @ rng.uniform(-1, 1, (height, width)) @ matrices[1].T
        for _ in range(2)
    )
    second = np.mgrid[:height, :width] + np.stack([down, right])
    return first.astype(np.float32), second.astype(np.float32)


def _affine_places(moves: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the source rows and columns of all pixels if three points move by [3, (x, y)]."""
    x, y = width // 2, height // 2
    arm = min(height, width) // 3
    points = np.array([[x + arm, y + arm], [x + arm, y - arm], [x - arm, y - arm]], float)
    back = np.linalg.solve(np.c_[points + moves, np.ones(3)], points)
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([columns, rows, np.ones_like(rows)], -1) @ back
    return np.stack([places[..., 1], places[..., 0]])


@register("elastic_transform", _displaced, random=True)
def elastic_transform(image: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """Apply a random affine map, given by three moved points, then displace all pixels slightly."""
    for places, mode in ((first, "mirror"), (second, "reflect")):
        sample = partial(map_coordinates, coordinates=list(places), order=1, mode=mode)
        image = jax.vmap(sample, in_axes=-1, out_axes=-1)(image)
    return image


def _boxes(rng: Generator, height: int, width: int, share: float) -> tuple[np.ndarray, ...]:
    box = Image.Resampling.BOX

    def down_and_up(size: int) -> np.ndarray:
        fewer = int(size * share)
        return linear.resampling(fewer, size, box) @ linear.resampling(size, fewer, box)

    return down_and_up(height), down_and_up(width)


@register("pixelate", _boxes)
def pixelate(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Reduce each side to a fraction of its pixels and enlarge it again, like PIL's BOX."""
    return linear.apply(rows, columns, image)


@register("jpeg_compression", None)
def jpeg_compression(rng: Generator, image: np.ndarray, quality: int) -> np.ndarray:
    """Encode the image as JPEG and decode it, with PIL."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
