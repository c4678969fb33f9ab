"""Proposals of the Square attack: square patches of decreasing size, for each threat model.

All functions take one image; use `jax.vmap` for a batch. `image` and `best`, the best image so far,
are [H, W, C]; `eps` is the radius.
"""

import abc
import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rtl_jax.attacks.threats import L1, L2, Linf, Threat

# The initial fraction of pixels in a patch, and the queries after which it is halved.
INITIAL_FRACTION = 0.8
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_TINY = 1e-12


class Patch(NamedTuple):
    """A square: its mask [H, W, 1], 1 inside and 0 outside, and first row and column, int [2]."""

    mask: jax.Array
    corner: jax.Array


@dataclasses.dataclass(frozen=True)
class Patches(abc.ABC):
    """Proposals for images of one shape (H, W, C) in one threat model."""

    shape: tuple[int, int, int]
    threat: Threat

    @abc.abstractmethod
    def side(self, level: int) -> int:
        """Return the side of a patch in pixels, after `level` halvings of its area."""

    @abc.abstractmethod
    def start(self, key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw the first proposal."""

    @abc.abstractmethod
    def propose(
        self, key: jax.Array, query: jax.Array, best: jax.Array, image: jax.Array, eps: jax.Array
    ) -> jax.Array:
        """Change another patch of `best` at a random position."""

    def _sides(self) -> jax.Array:
        """Return the side at every level."""
        return jnp.asarray([self.side(level) for level in range(len(HALVED_AFTER) + 1)])

    def _place(self, key: jax.Array, side: jax.Array) -> Patch:
        """Draw the position of a patch.

        As in the authors' code, a patch excludes the last row and column unless it covers them all.
        """
        height, width, _ = self.shape
        room = jnp.asarray([height, width]) - side
        corner = jnp.floor(jax.random.uniform(key, (2,)) * room).astype(int)
        rows, columns = jnp.arange(height), jnp.arange(width)
        down = (rows >= corner[0]) & (rows < corner[0] + side)
        across = (columns >= corner[1]) & (columns < corner[1] + side)
        return Patch((down[:, None] & across)[..., None].astype(jnp.float32), corner)


class LinfPatches(Patches):
    """Patches of +-eps on an initial image with vertical stripes of +-eps (algorithm 2)."""

    def side(self, level: int) -> int:
        """Return any number of pixels; see `Patches.side`."""
        return min(max(_area_side(self.shape, level), 1), *self.shape[:2])

    def start(self, key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw vertical stripes."""
        change = eps * _signs(key, (1, *self.shape[1:]), image.dtype)
        return self.threat.project(image + change, image, eps)

    def propose(
        self, key: jax.Array, query: jax.Array, best: jax.Array, image: jax.Array, eps: jax.Array
    ) -> jax.Array:
        """Move all pixels of a patch to one end of the box, with a sign for each channel."""
        places, signs, _ = jax.random.split(key, 3)
        patch = self._place(places, self._sides()[_level(query)])
        sign = _signs(signs, (1, 1, self.shape[2]), image.dtype)
        return self.threat.project(best + 2 * eps * sign * patch.mask, image, eps)


class PatternPatches(Patches):
    """Patterns that move norm from one patch to another (algorithm 3), on an initial grid.

    p: the order of the norm. decay: the exponent of the rings of a pattern; see `_hill`.
    """

    p: ClassVar[int]
    decay: ClassVar[int]

    @abc.abstractmethod
    def _new_size(self, budget: jax.Array) -> jax.Array:
        """Return the norm of the new pattern in each channel from a budget of p-th powers."""

    def _fill(self, change: jax.Array, eps: jax.Array) -> jax.Array:
        """Scale a change up to norm eps; by default leave it unchanged."""
        return change

    def side(self, level: int) -> int:
        """Return an odd number of pixels, at least 3, but no more than the image has."""
        return min(max(_area_side(self.shape, level), 3) | 1, *self.shape[:2])

    def start(self, key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw a grid of about 5 x 5 patterns."""
        change = self._fill(self._grid(key, image.dtype), eps)
        return self.threat.project(image + change, image, eps)

    def propose(
        self, key: jax.Array, query: jax.Array, best: jax.Array, image: jax.Array, eps: jax.Array
    ) -> jax.Array:
        """Add a pattern in one patch, with the norm freed by another and the unused budget."""
        level, channels = _level(query), self.shape[2]
        places, signs, turn = jax.random.split(key, 3)
        side = self._sides()[level]
        here, there = (self._place(one, side) for one in jax.random.split(places))
        pattern = self._pattern_at(level, here.corner, turn)
        pattern = pattern * _signs(signs, (1, 1, channels), image.dtype)
        change = best - image

        def norms(part: jax.Array) -> jax.Array:  # of every channel
            return (jnp.abs(part) ** self.p).sum((0, 1)) ** (1 / self.p)

        unused = jnp.maximum(eps**self.p - self.threat.norm(change) ** self.p, 0)
        freed = norms(change * jnp.maximum(here.mask, there.mask)) ** self.p
        size = self._new_size(unused / channels + freed)
        new = pattern + change * here.mask / (norms(change * here.mask) + _TINY)
        new *= size / (norms(new) + _TINY)
        change = self._fill(jnp.where(here.mask > 0, new, change * (1 - there.mask)), eps)
        return self.threat.project(image + change, image, eps)

    def pattern(self, side: int) -> np.ndarray:
        """Return a hill above a valley, [side, side], of norm 1 (section 3.3)."""
        upper = side // 2
        pattern = np.zeros((side, side))
        pattern[:upper] = self._hill(upper, side)
        pattern[upper:] = -self._hill(side - upper, side)
        return np.asarray(pattern / np.linalg.norm(pattern.ravel(), self.p), np.float32)

    def _hill(self, rows: int, columns: int) -> np.ndarray:
        """Return a hill of norm 1: rings around the centre, each 1 / k^decay above the next."""
        down = np.abs(np.arange(rows) - rows // 2)[:, None]
        across = np.abs(np.arange(columns) - columns // 2)
        rings = max(rows, columns) // 2 + 1
        heights = np.cumsum(1.0 / np.arange(rings, 0, -1) ** self.decay)[::-1]
        hill = heights[np.maximum(down, across)]
        return hill / max(float(np.linalg.norm(hill.ravel(), self.p)), _TINY)

    def _pattern_at(self, level: jax.Array, corner: jax.Array, turn: jax.Array) -> jax.Array:
        """Return the pattern at a patch's position, upright or transposed, [H, W, 1]."""
        height, width, _ = self.shape
        side = max(height, width)
        padded = np.zeros((2, len(HALVED_AFTER) + 1, height + side, width + side), np.float32)
        for number in range(len(HALVED_AFTER) + 1):
            pattern = self.pattern(self.side(number))
            rows, columns = height + np.arange(len(pattern)), width + np.arange(len(pattern))
            padded[:, number][:, rows[:, None], columns] = pattern, pattern.T
        start = (
            jax.random.bernoulli(turn).astype(int),
            level,
            height - corner[0],
            width - corner[1],
        )
        return lax.dynamic_slice(jnp.asarray(padded), start, (1, 1, height, width))[0, 0, ..., None]

    def _grid(self, key: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Draw a grid of patterns, each upright or transposed, with a sign for each channel."""
        height, width, channels = self.shape
        side = max(height // 5, 1)
        margin = max(height - 5 * side, 0) // 2
        rows, columns = np.arange(height) - margin, np.arange(width) - margin
        inside = (rows >= 0)[:, None] & (columns >= 0)
        pattern = self.pattern(side)[rows[:, None] % side, columns % side]
        transposed = self.pattern(side).T[rows[:, None] % side, columns % side]
        tiles = (height // side + 1, width // side + 1)
        turn, signs = jax.random.split(key)
        own = (np.maximum(rows, 0)[:, None] // side, np.maximum(columns, 0) // side)
        turned = jax.random.bernoulli(turn, shape=tiles)[own]
        sign = _signs(signs, (*tiles, channels), dtype)[own]
        return jnp.where(turned, transposed, pattern)[..., None] * sign * inside[..., None]


class L2Patches(PatternPatches):
    """The patterns of Andriushchenko et al. (2020)."""

    p = 2
    decay = 2

    def _new_size(self, budget: jax.Array) -> jax.Array:
        return jnp.sqrt(budget)

    def _fill(self, change: jax.Array, eps: jax.Array) -> jax.Array:
        return change * (eps / (self.threat.norm(change) + _TINY))


class L1Patches(PatternPatches):
    """The patterns of Croce and Hein (2021), section 4."""

    p = 1
    decay = 4

    def _new_size(self, budget: jax.Array) -> jax.Array:
        return budget * self.shape[2]


# The file of a new threat model may add its entry.
PATCHES: dict[type[Threat], type[Patches]] = {Linf: LinfPatches, L2: L2Patches, L1: L1Patches}


def _level(query: jax.Array) -> jax.Array:
    """Return the number of times the area has been halved before a query."""
    return (query > jnp.asarray(HALVED_AFTER)).sum()


def _area_side(shape: tuple[int, int, int], level: int) -> int:
    """Return the side of a square of the level's area, rounded."""
    return round(math.sqrt(INITIAL_FRACTION / 2**level * shape[0] * shape[1]))


def _signs(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Draw random signs, -1 or 1."""
    return jax.random.rademacher(key, shape, dtype)
