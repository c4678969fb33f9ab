"""How far Auto-PGD steps: the schedules of checkpoints that set it, for every image by itself."""

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from rtl_jax.attacks.threat import Ball


class Peak(NamedTuple):
    """Where what is raised was highest, for each image: `value` [N], and its gradient there."""

    images: jax.Array
    value: jax.Array
    gradient: jax.Array


class Pace(NamedTuple):
    """How far the next step goes, [N] each.

    size: of the step. share: of the pixels that it moves, in L1.
    rises: steps upwards since the last checkpoint. slowed: whether that one shortened the step.
    reference: then, the highest value; in L1 the number of changed pixels.
    """

    size: jax.Array
    share: jax.Array
    rises: jax.Array
    slowed: jax.Array
    reference: jax.Array


class Stage(NamedTuple):
    """A part of a run, within one radius.

    factor: the radius, in eps. steps: its number of steps.
    windows: int [steps + 1], at a checkpoint the steps since the last one, elsewhere 0.
    """

    factor: jax.Array
    steps: jax.Array
    windows: jax.Array

    @classmethod
    def stack(cls, factors: list[int], windows: list[list[int]]) -> "Stage":
        """Stages one after the other, [S] each, their windows padded to one length."""
        longest = max(map(len, windows))
        padded = [row + [0] * (longest - len(row)) for row in windows]
        steps = [len(row) - 1 for row in windows]
        return cls(jnp.asarray(factors), jnp.asarray(steps), jnp.asarray(padded))


class Schedule(Protocol):
    """Of one kind of ball. `radius` is [N], `x` and `images` [N, ...]."""

    momentum: float  # the weight of the new step, against the last change

    @staticmethod
    def stages(steps: int) -> Stage:
        """All stages of a run of so many steps."""

    @staticmethod
    def begin(x: jax.Array, images: jax.Array, radius: jax.Array) -> Pace:
        """The first step's, from x."""

    @staticmethod
    def checkpoint(
        pace: Pace, window: jax.Array, peak: Peak, images: jax.Array, radius: jax.Array
    ) -> tuple[Pace, jax.Array]:
        """The pace behind a checkpoint, and which images go back to their peak, bool [N]."""


class Halving:
    """Linf and L2: from 2 eps, halved where it goes up too rarely or the peak does not move.

    Croce and Hein (2020), section 3 and conditions 1 and 2.
    """

    momentum = 0.75
    rho = 0.75  # too rarely: up to this share of the steps
    first, less, least = 0.22, 0.03, 0.06  # windows: the first, what each is shorter by, the last

    @staticmethod
    def stages(steps: int) -> Stage:
        """One, whose windows become shorter."""
        share = [max(int(part * steps), 1) for part in (Halving.first, Halving.less, Halving.least)]
        window, less, least = share
        windows, end = [0] * (steps + 1), window
        while end <= steps:
            windows[end] = window
            window = max(window - less, least)
            end += window
        return Stage.stack([1], [windows])

    @staticmethod
    def begin(x: jax.Array, images: jax.Array, radius: jax.Array) -> Pace:
        """2 eps."""
        zero = jnp.zeros_like(radius)
        return Pace(2 * radius, zero, zero, jnp.ones(len(x), bool), zero)

    @staticmethod
    def checkpoint(
        pace: Pace, window: jax.Array, peak: Peak, images: jax.Array, radius: jax.Array
    ) -> tuple[Pace, jax.Array]:
        """Half the size, and back to the peak, where a condition holds."""
        rarely = pace.rises <= Halving.rho * window
        stuck = ~pace.slowed & (pace.reference >= peak.value)
        slow = rarely | stuck
        size = jnp.where(slow, pace.size / 2, pace.size)
        return Pace(size, pace.share, jnp.zeros_like(pace.rises), slow, peak.value), slow


class Sparsening:
    """L1: from eps, shorter unless ever fewer pixels change; through balls of 3, 2 and 1 eps.

    Croce and Hein (2021), algorithm 1 and section 3.4.
    """

    momentum = 1.0
    factors, shares = (3, 2, 1), (0.3, 0.3)  # radii in eps; of the steps, those of the first two
    window = 0.04  # of a stage's steps
    moved = 1.5  # so many times fewer pixels move than have changed
    sparser = 0.95  # fewer changed pixels than this share of the last ones: begin anew
    shrink, smallest = 1.5, 10  # a step is divided by so much, and down to a so-manieth of eps

    @staticmethod
    def stages(steps: int) -> Stage:
        """One for each radius."""
        lengths = [math.ceil(share * steps) for share in Sparsening.shares]
        lengths.append(max(steps - sum(lengths), 1))
        windows = []
        for length in lengths:
            every = max(int(Sparsening.window * length), 1)
            windows.append([every * (step > 0 and step % every == 0) for step in range(length + 1)])
        return Stage.stack(list(Sparsening.factors), windows)

    @staticmethod
    def begin(x: jax.Array, images: jax.Array, radius: jax.Array) -> Pace:
        """eps, over as many pixels as the start's changes allow."""
        number = _changed(x, images).astype(radius.dtype)
        share = number / (images[0].size * Sparsening.moved)
        zero = jnp.zeros_like(radius)
        return Pace(radius, share, zero, jnp.zeros(len(x), bool), number)

    @staticmethod
    def checkpoint(
        pace: Pace, window: jax.Array, peak: Peak, images: jax.Array, radius: jax.Array
    ) -> tuple[Pace, jax.Array]:
        """eps again, and back to the peak, where that has become sparser; else a shorter step."""
        number = _changed(peak.images, images).astype(radius.dtype)
        sparser = number < Sparsening.sparser * pace.reference
        shorter = jnp.maximum(pace.size / Sparsening.shrink, radius / Sparsening.smallest)
        size = jnp.where(sparser, radius, shorter)
        share = number / (images[0].size * Sparsening.moved)
        return Pace(size, share, jnp.zeros_like(pace.rises), ~sparser, number), sparser


def _changed(x: jax.Array, images: jax.Array) -> jax.Array:
    """How many pixels differ, [N]."""
    return (x != images).reshape(len(x), -1).sum(-1)


SCHEDULES: dict[Ball, type[Schedule]] = {"linf": Halving, "l2": Halving, "l1": Sparsening}
