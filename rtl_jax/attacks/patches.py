"""What the Square attack tries: ever smaller square patches of one image, in each threat model.

`image` and `best`, the best found so far, are [H, W, C]; `eps` is the radius. A batch is
`jax.vmap` of these.
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

# The fraction of all pixels in a patch at first; it is halved after each of these queries.
INITIAL_FRACTION = 0.8
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_TINY = 1e-12


class Patch(NamedTuple):
    """A square: 1 inside and 0 outside, [H, W, 1], and its first row and column, int [2]."""

    mask: jax.Array
    corner: jax.Array


@dataclasses.dataclass(frozen=True)
class Patches(abc.ABC):
    """The proposals for images of one shape (H, W, C) in one threat model."""

    shape: tuple[int, int, int]
    threat: Threat

    @abc.abstractmethod
    def side(self, level: int) -> int:
        """The patch's side in pixels, after `level` halvings of its area."""

    @abc.abstractmethod
    def start(self, key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw the first proposal."""

    @abc.abstractmethod
    def propose(
        self, key: jax.Array, query: jax.Array, best: jax.Array, image: jax.Array, eps: jax.Array
    ) -> jax.Array:
        """Change one more patch of `best`, at a random place."""

    def _sides(self) -> jax.Array:
        """The side at every level."""
        return jnp.asarray([self.side(level) for level in range(len(HALVED_AFTER) + 1)])

    def _place(self, key: jax.Array, side: jax.Array) -> Patch:
        """Draw a patch's place.

        As in the authors' code it ends before the last row and column, unless it has all of them.
        """
        height, width, _ = self.shape
        room = jnp.asarray([height, width]) - side
        corner = jnp.floor(jax.random.uniform(key, (2,)) * room).astype(int)
        rows, columns = jnp.arange(height), jnp.arange(width)
        down = (rows >= corner[0]) & (rows < corner[0] + side)
        across = (columns >= corner[1]) & (columns < corner[1] + side)
        return Patch((down[:, None] & across)[..., None].astype(float), corner)


class LinfPatches(Patches):
    """Patches of +-eps, on vertical stripes of +-eps (algorithm 2)."""

    def side(self, level: int) -> int:
        """Any number of pixels."""
        return min(max(_area_side(self.shape, level), 1), *self.shape[:2])

    def start(self, key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw the stripes."""
        change = eps * _signs(key, (1, *self.shape[1:]), image.dtype)
        return self.threat.project(image + change, image, eps)

    def propose(
        self, key: jax.Array, query: jax.Array, best: jax.Array, image: jax.Array, eps: jax.Array
    ) -> jax.Array:
        """Move all pixels of a patch to one end of the ball, for each channel."""
        places, signs, _ = jax.random.split(key, 3)
        patch = self._place(places, self._sides()[_level(query)])
        sign = _signs(signs, (1, 1, self.shape[2]), image.dtype)
        return self.threat.project(best + 2 * eps * sign * patch.mask, image, eps)


class PatternPatches(Patches):
    """Patterns that take the norm of one patch to another (algorithm 3), on a grid of patterns.

    p: of the norm. decay: of the rings of a pattern, see `hill`.
    """

    p: ClassVar[int]
    decay: ClassVar[int]

    @abc.abstractmethod
    def _new_size(self, budget: jax.Array) -> jax.Array:
        """The new pattern's norm in each channel; the budget is that of p-th powers."""

    def _fill(self, change: jax.Array, eps: jax.Array) -> jax.Array:
        """Scale a change up to eps, where the norm allows it."""
        return change

    def side(self, level: int) -> int:
        """An odd number of pixels, at least 3."""
        return min(max(_area_side(self.shape, level), 3) | 1, *self.shape[:2])

    def start(self, key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw a grid of about 5 x 5 patterns."""
        change = self._fill(self._grid(key, image.dtype), eps)
        return self.threat.project(image + change, image, eps)

    def propose(
        self, key: jax.Array, query: jax.Array, best: jax.Array, image: jax.Array, eps: jax.Array
    ) -> jax.Array:
        """Add a pattern in one patch, of what another patch gives up and what is unused."""
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
        """A hill above a valley, [side, side], of norm 1 (section 3.3)."""
        upper = side // 2
        pattern = np.zeros((side, side))
        pattern[:upper] = self._hill(upper, side)
        pattern[upper:] = -self._hill(side - upper, side)
        return np.asarray(pattern / np.linalg.norm(pattern.ravel(), self.p), np.float32)

    def _hill(self, rows: int, columns: int) -> np.ndarray:
        """Rings around the centre, each 1 / k^decay higher than the next; of norm 1."""
        down = np.abs(np.arange(rows) - rows // 2)[:, None]
        across = np.abs(np.arange(columns) - columns // 2)
        rings = max(rows, columns) // 2 + 1
        heights = np.cumsum(1.0 / np.arange(rings, 0, -1) ** self.decay)[::-1]
        hill = heights[np.maximum(down, across)]
        return hill / max(float(np.linalg.norm(hill.ravel(), self.p)), _TINY)

    def _pattern_at(self, level: jax.Array, corner: jax.Array, turn: jax.Array) -> jax.Array:
        """The pattern of a patch's size, upright or transposed, in its place, [H, W, 1]."""
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
        """Patterns side by side, each upright or transposed, with a sign for each channel."""
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


# A threat model's own file may add its own.
PATCHES: dict[type[Threat], type[Patches]] = {Linf: LinfPatches, L2: L2Patches, L1: L1Patches}


def _level(query: jax.Array) -> jax.Array:
    """How often the area has been halved before a query."""
    return (query > jnp.asarray(HALVED_AFTER)).sum()


def _area_side(shape: tuple[int, int, int], level: int) -> int:
    """The side of a square of the level's area, rounded."""
    return round(math.sqrt(INITIAL_FRACTION / 2**level * shape[0] * shape[1]))


def _signs(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """-1 or 1, at random."""
    return jax.random.rademacher(key, shape, dtype)
