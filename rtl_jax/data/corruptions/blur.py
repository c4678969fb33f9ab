"""Blurs: defocus, frosted glass, motion and zoom."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import ndimage

from rtl_jax.data.corruptions import linear
from rtl_jax.data.corruptions.linear import Between, blend, enlarging
from rtl_jax.data.corruptions.motion import Motion, motion
from rtl_jax.data.corruptions.registry import register

Generator = np.random.Generator
Arrays = tuple[np.ndarray, ...]


def disk(rng: Generator, height: int, width: int, radius: float, smooth: float) -> Arrays:
    """Return the disk's weights, [K, K], smoothed by a Gaussian of 3 pixels, 5 for a large disk."""
    reach, taps = (8, 1) if radius <= 8 else (math.ceil(radius), 2)
    places = np.arange(-reach, reach + 1)
    weights = (places[:, None] ** 2 + places**2 <= radius**2).astype(float)
    gaussian = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * smooth**2))
    for axis in (0, 1):
        weights = ndimage.correlate1d(weights, gaussian / gaussian.sum(), axis=axis, mode="mirror")
    # The published code normalises before smoothing, which does not preserve the sum at the edge.
    weights /= (places[:, None] ** 2 + places**2 <= radius**2).sum()
    return (weights.astype(np.float32),)


@register("defocus_blur", disk)
def defocus_blur(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Average over a disk; the image is mirrored at its edge without repeating the edge pixels."""
    reach = len(kernel) // 2
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    channels = jnp.moveaxis(padded, -1, 0)[:, None]
    found = lax.conv_general_dilated(
        channels, kernel[None, None], (1, 1), "VALID", precision=lax.Precision.HIGHEST
    )
    return jnp.moveaxis(found[:, 0], 0, -1)


def _glass(
    rng: Generator, height: int, width: int, sigma: float, reach: int, rounds: int
) -> Arrays:
    sources = np.arange(height * width)
    for _ in range(rounds):
        sources = sources[_taken(rng, height, width, reach)]
    matrices = (linear.smoothing(n, sigma, mode="nearest", truncate=4) for n in (height, width))
    return (sources.astype(np.int32), *matrices)


def _taken(rng: Generator, height: int, width: int, reach: int) -> np.ndarray:
    """Return the source pixel of each pixel after one round, int [H * W].

    From the last pixel to the first, each takes the current value of a pixel at most `reach` away.
    To avoid this sequential loop, all pixels follow their sources in parallel, doubling the number
    of steps each time: entry n of `follow` is pixel n after it has been replaced, and entry n + H W
    before.
    """
    number = height * width
    rows, columns = (np.arange(size - reach, reach, -1) for size in (height, width))
    shifts = rng.integers(-reach, reach, (len(rows), len(columns), 2))
    taking = (rows[:, None] * width + columns).ravel()
    source = (rows[:, None] + shifts[..., 1]) * width + columns + shifts[..., 0]
    source = source.ravel()
    already = np.isin(source, taking) & (source > taking)
    follow = np.tile(np.arange(number) + number, 2)
    follow[taking] = np.where(already, source, source + number)
    while (follow < number).any():
        follow = follow[follow]
    return follow[:number] - number


@register("glass_blur", _glass, random=True)
def glass_blur(
    image: jax.Array, sources: jax.Array, rows: jax.Array, columns: jax.Array
) -> jax.Array:
    """Blur, replace pixels by random nearby ones, and blur again.

    The published code intends to swap two pixels but copies one to the other, and so does this.
    """
    blurred = linear.apply(rows, columns, image)
    taken = blurred.reshape(-1, image.shape[-1])[sources].reshape(image.shape)
    return linear.apply(rows, columns, taken)


def _moving(rng: Generator, height: int, width: int, radius: int, sigma: float) -> Arrays:
    return motion(height, width, radius, sigma, rng.uniform(-45, 45))


@register("motion_blur", _moving, random=True)
def motion_blur(
    image: jax.Array, rows: jax.Array, columns: jax.Array, weights: jax.Array
) -> jax.Array:
    """Blur along a direction within 45 degrees of the horizontal."""

    def add(total: jax.Array, at: Motion) -> tuple[jax.Array, None]:
        return total + at.weights * image[at.rows][:, at.columns], None

    return lax.scan(add, jnp.zeros_like(image), Motion(rows, columns, weights))[0]


def _zooming(rng: Generator, height: int, width: int, end: float, step: float) -> Arrays:
    factors = np.arange(1, end, step)
    parts: list[np.ndarray] = []
    for size in (height, width):
        parts += map(np.stack, zip(*(enlarging(size, float(one)) for one in factors), strict=True))
    return tuple(parts)


@register("zoom_blur", _zooming)
def zoom_blur(image: jax.Array, *between: jax.Array) -> jax.Array:
    """Average the image and enlargements of it."""

    def add(total: jax.Array, at: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        return total + blend(image, Between(*at[:3]), Between(*at[3:])), None

    return lax.scan(add, image, between)[0] / (len(between[0]) + 1)
