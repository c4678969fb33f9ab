"""The changes that the Square attack tries: squares of one image, ever smaller ones.

`image` and `best`, the best found so far, are [H, W, C]; `eps` is the radius. A batch is
`jax.vmap` of these.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rtl_jax.attacks.threat import L1, L2, THREATS, Ball

# Of all pixels, a window's share at the beginning; behind each of these queries it is halved.
START_SHARE = 0.8
HALVED_BEHIND = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Windows:
    """All windows of images of one shape (H, W, C), and what is tried in them, in one norm."""

    shape: tuple[int, int, int]
    norm: Ball

    def side(self, level: int) -> int:
        """Pixels, after so many halvings; in L2 and L1 odd and at least 3."""
        height, width, _ = self.shape
        side = round(math.sqrt(START_SHARE / 2**level * height * width))
        side = max(side, 1) if self.norm == "linf" else max(side, 3) | 1
        return min(side, height, width)

    def start(self, key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
        """Vertical stripes of +-eps (Linf), or a grid of about 5 x 5 patterns (L2 and L1)."""
        if self.norm == "linf":
            change = eps * _signs(key, (1, *self.shape[1:]), image.dtype)
        else:
            change = self._grid(key, image.dtype)
        if self.norm == "l2":
            change *= eps / (L2.norm(change) + _TINY)
        return THREATS[self.norm].project(image + change, image, eps)

    def change(
        self, key: jax.Array, query: jax.Array, best: jax.Array, image: jax.Array, eps: jax.Array
    ) -> jax.Array:
        """`best` with another window, at a random place."""
        level = (query > jnp.asarray(HALVED_BEHIND)).sum()
        sides = jnp.asarray([self.side(level) for level in range(len(HALVED_BEHIND) + 1)])
        places, signs, turn = jax.random.split(key, 3)
        if self.norm == "linf":
            window, _ = self._place(places, sides[level])
            sign = _signs(signs, (1, 1, self.shape[2]), image.dtype)
            return THREATS["linf"].project(best + 2 * eps * sign * window, image, eps)
        here, there = (self._place(key, sides[level]) for key in jax.random.split(places))
        pattern = self._pattern_at(level, here[1], turn)
        pattern = pattern * _signs(signs, (1, 1, self.shape[2]), image.dtype)
        return self._moved(best, image, eps, here[0], there[0], pattern)

    def _moved(
        self,
        best: jax.Array,
        image: jax.Array,
        eps: jax.Array,
        here: jax.Array,
        there: jax.Array,
        pattern: jax.Array,
    ) -> jax.Array:
        """The pattern is added in one window, with what another one gives up and what is unused.

        `here` and `there` are 1 in the two windows, 0 outside, [H, W, 1].
        """
        change, channels = best - image, self.shape[2]
        if self.norm == "l2":
            norm, power = L2.norm, 2
        else:
            norm, power = L1.norm, 1

        def length(part: jax.Array) -> jax.Array:  # of every channel
            return (jnp.abs(part) ** power).sum((0, 1)) ** (1 / power)

        unused = jnp.maximum(eps**power - norm(change) ** power, 0)
        freed = length(change * jnp.maximum(here, there)) ** power
        share = unused / channels + freed
        size = jnp.sqrt(share) if self.norm == "l2" else share * channels
        new = pattern + change * here / (length(change * here) + _TINY)
        new *= size / (length(new) + _TINY)
        change = jnp.where(here > 0, new, change * (1 - there))
        if self.norm == "l2":
            change *= eps / (norm(change) + _TINY)
        return THREATS[self.norm].project(image + change, image, eps)

    def _place(self, key: jax.Array, side: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A window at random: 1 inside, 0 outside, [H, W, 1]; and its first row and column.

        As in the authors' code it ends before the last row and column, unless it has all of them.
        """
        height, width, _ = self.shape
        room = jnp.asarray([height, width]) - side
        corner = jnp.floor(jax.random.uniform(key, (2,)) * room).astype(int)
        rows, columns = jnp.arange(height), jnp.arange(width)
        down = (rows >= corner[0]) & (rows < corner[0] + side)
        across = (columns >= corner[1]) & (columns < corner[1] + side)
        return (down[:, None] & across)[..., None].astype(float), corner

    def _pattern_at(self, level: jax.Array, corner: jax.Array, turn: jax.Array) -> jax.Array:
        """The pattern of a window's size, upright or lying, in its place, [H, W, 1]."""
        height, width, _ = self.shape
        side = max(height, width)
        padded = np.zeros((2, len(HALVED_BEHIND) + 1, height + side, width + side), np.float32)
        for number in range(len(HALVED_BEHIND) + 1):
            shape = _pattern(self.side(number), self.norm)
            rows, columns = height + np.arange(len(shape)), width + np.arange(len(shape))
            padded[:, number][:, rows[:, None], columns] = shape, shape.T
        start = (
            jax.random.bernoulli(turn).astype(int),
            level,
            height - corner[0],
            width - corner[1],
        )
        return lax.dynamic_slice(jnp.asarray(padded), start, (1, 1, height, width))[0, 0, ..., None]

    def _grid(self, key: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Patterns side by side, each upright or lying, with a sign for each channel."""
        height, width, channels = self.shape
        side = max(height // 5, 1)
        margin = max(height - 5 * side, 0) // 2
        rows, columns = np.arange(height) - margin, np.arange(width) - margin
        inside = (rows >= 0)[:, None] & (columns >= 0)
        pattern = _pattern(side, self.norm)[rows[:, None] % side, columns % side]
        lying = _pattern(side, self.norm).T[rows[:, None] % side, columns % side]
        tiles = (height // side + 1, width // side + 1)
        turn, signs = jax.random.split(key)
        own = (np.maximum(rows, 0)[:, None] // side, np.maximum(columns, 0) // side)
        turned = jax.random.bernoulli(turn, shape=tiles)[own]
        sign = _signs(signs, (*tiles, channels), dtype)[own]
        return jnp.where(turned, lying, pattern)[..., None] * sign * inside[..., None]


def _signs(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """-1 or 1, at random."""
    return jax.random.rademacher(key, shape, dtype)


def _pattern(side: int, norm: Ball) -> np.ndarray:
    """A hill over a valley, [side, side], of length 1 (section 3.3 of Andriushchenko et al.)."""
    power = {"l2": 2, "l1": 4}[norm]
    upper = side // 2
    pattern = np.zeros((side, side))
    pattern[:upper] = _hill(upper, side, power)
    pattern[upper:] = -_hill(side - upper, side, power)
    length = np.linalg.norm(pattern.ravel()) if norm == "l2" else np.abs(pattern).sum()
    return np.asarray(pattern / length, np.float32)


def _hill(rows: int, columns: int, power: int) -> np.ndarray:
    """Rings around the centre, each 1 / k^power higher than the next; of length 1."""
    down = np.abs(np.arange(rows) - rows // 2)[:, None]
    across = np.abs(np.arange(columns) - columns // 2)
    rings = max(rows, columns) // 2 + 1
    heights = np.cumsum(1.0 / np.arange(rings, 0, -1) ** power)[::-1]
    hill = heights[np.maximum(down, across)]
    length = np.linalg.norm(hill.ravel()) if power == 2 else hill.sum()
    return hill / max(float(length), _TINY)
