"""Weather: snow, fog and brightness."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data.corruptions.linear import enlarging
from rtl_jax.data.corruptions.motion import motion
from rtl_jax.data.corruptions.registry import numbers, register
from rtl_jax.data.transforms import grey


class Snow(NamedTuple):
    """The parameters of snow, in the order of the table.

    mean, spread: of the normal distribution of the flakes.
    size: their magnification. least: the threshold below which they are invisible.
    radius, sigma: of their motion. colour: the remaining fraction of the image's colours.
    """

    mean: float
    spread: float
    size: float
    least: float
    radius: float
    sigma: float
    colour: float


def _flakes(
    rng: np.random.Generator, height: int, width: int, *parameters: float
) -> tuple[np.ndarray, ...]:
    of = Snow(*parameters)
    flakes = of.mean + of.spread * rng.standard_normal((height, width))
    for axis, size in ((0, height), (1, width)):
        low, high, share = enlarging(size, of.size)
        share = share[:, None] if axis == 0 else share
        flakes = np.take(flakes, low, axis) * (1 - share) + np.take(flakes, high, axis) * share
    flakes = np.clip(np.where(flakes < of.least, 0, flakes), 0, 1)
    moves = motion(height, width, int(of.radius), of.sigma, rng.uniform(-135, -45))
    shifts = zip(*moves, strict=True)
    moved = np.sum([weight * flakes[np.ix_(*at)] for *at, weight in shifts], axis=0)
    fallen = moved + np.rot90(moved, 2)
    return fallen[..., None].astype(np.float32), np.asarray(of.colour, np.float32)


@register("snow", _flakes, random=True)
def snow(image: jax.Array, flakes: jax.Array, colour: jax.Array) -> jax.Array:
    """Bleach the image and add falling flakes."""
    bleached = jnp.maximum(image, grey(image)[..., None] * 1.5 + 0.5)
    return colour * image + (1 - colour) * bleached + flakes


def _clouds(
    rng: np.random.Generator, height: int, width: int, thickness: float, decay: float
) -> tuple[np.ndarray, ...]:
    side = 2 ** (max(height, width) - 1).bit_length()
    clouds = plasma(rng, side, decay)[:height, :width, None]
    return clouds.astype(np.float32), np.asarray(thickness, np.float32)


def plasma(rng: np.random.Generator, side: int, decay: float) -> np.ndarray:
    """Draw a height map, float64 [side, side] in [0, 1], by the diamond-square algorithm.

    `side` is a power of 2. The map is periodic.
    """
    heights = np.zeros((side, side))
    step, wobble = side, 100.0

    def mean(*neighbours: np.ndarray) -> np.ndarray:
        draws = rng.uniform(-wobble, wobble, neighbours[0].shape)
        # The published amplitude is squared.
        return np.sum(neighbours, axis=0) / 4 + wobble * draws

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        below, right = np.roll(corners, -1, 0), np.roll(corners, -1, 1)
        centres = mean(corners, below, right, np.roll(below, -1, 1))
        heights[half::step, half::step] = centres
        heights[::step, half::step] = mean(centres, np.roll(centres, 1, 0), corners, right)
        heights[half::step, ::step] = mean(centres, np.roll(centres, 1, 1), corners, below)
        step, wobble = half, wobble / decay
    heights -= heights.min()
    return heights / heights.max()


@register("fog", _clouds, random=True)
def fog(image: jax.Array, clouds: jax.Array, thickness: jax.Array) -> jax.Array:
    """Add a plasma fractal, and rescale to keep the largest value."""
    brightest = image.max()
    return (image + thickness * clouds) * brightest / (brightest + thickness)


@register("brightness", numbers)
def brightness(image: jax.Array, more: jax.Array) -> jax.Array:
    """Raise the value in HSV, which scales a colour; black becomes grey."""
    value = image.max(-1, keepdims=True)
    raised = jnp.clip(value + more, 0, 1)
    return jnp.where(value > 0, image * raised / jnp.where(value > 0, value, 1), raised)
