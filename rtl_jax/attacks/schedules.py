"""Step-size schedules of APGD: per-image step sizes, updated at checkpoints, and the steps."""

import abc
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtl_jax.attacks.threats import L1, L2, Linf, Threat


class Balls(NamedTuple):
    """A ball for each image: a threat model, centres [N, ...] and radii [N]."""

    threat: Threat
    centres: jax.Array
    radii: jax.Array

    def project(self, x: jax.Array) -> jax.Array:
        """Project each of the images [N, ...] onto its ball and [0, 1]."""
        return jax.vmap(self.threat.project)(x, self.centres, self.radii)


class Maximum(NamedTuple):
    """The iterates of highest loss, [N, ...], their losses [N] and gradients (x_max and f_max)."""

    x: jax.Array
    loss: jax.Array
    gradient: jax.Array


class StepSize(NamedTuple):
    """The size of the next step and its bookkeeping, [N] each.

    size: the step size. fraction: in L1, the fraction of pixels that the step changes.
    increases: the number of steps since the last checkpoint that increased the loss.
    reduced: whether that checkpoint reduced the size.
    reference: the highest loss at that checkpoint; in L1, the number of changed pixels.
    """

    size: jax.Array
    fraction: jax.Array
    increases: jax.Array
    reduced: jax.Array
    reference: jax.Array


class Stage(NamedTuple):
    """The part of a restart within one radius.

    factor: the radius in units of eps. steps: the number of steps.
    checkpoints: int [steps + 1], the steps since the previous checkpoint at a checkpoint, else 0.
    """

    factor: jax.Array
    steps: jax.Array
    checkpoints: jax.Array

    @classmethod
    def stack(cls, factors: list[int], checkpoints: list[list[int]]) -> "Stage":
        """Stack consecutive stages, [S] each, with checkpoints padded to the same length."""
        longest = max(map(len, checkpoints))
        padded = [row + [0] * (longest - len(row)) for row in checkpoints]
        steps = [len(row) - 1 for row in checkpoints]
        return cls(jnp.asarray(factors), jnp.asarray(steps), jnp.asarray(padded))


class StepSizeSchedule(abc.ABC):
    """APGD's steps within one kind of ball; `SCHEDULES` has one for each threat model."""

    @abc.abstractmethod
    def stages(self, steps: int) -> Stage:
        """Divide `steps` into stages."""

    @abc.abstractmethod
    def initial(self, x: jax.Array, balls: Balls) -> StepSize:
        """Choose the size of the first step, from x [N, ...]."""

    @abc.abstractmethod
    def checkpoint(
        self, step: StepSize, interval: jax.Array, maximum: Maximum, balls: Balls
    ) -> tuple[StepSize, jax.Array]:
        """Choose the step size at a checkpoint, `interval` steps after the previous one.

        The second result, bool [N], tells which images restart from their maximum.
        """

    @abc.abstractmethod
    def move(
        self, here: Maximum, previous: jax.Array, first: jax.Array, step: StepSize, balls: Balls
    ) -> jax.Array:
        """Take a step from `here`, whose predecessor is `previous`; `first` is bool []."""


class Halving(StepSizeSchedule):
    """Linf and L2: from 2 eps, halved if the loss increases too rarely or f_max stagnates.

    Croce and Hein (2020), section 3 and conditions 1 and 2. Steps have momentum.
    """

    momentum = 0.75  # the weight of the new step; the previous one has the rest
    rho = 0.75  # too rarely: in at most this fraction of the steps
    first, decrease, smallest = 0.22, 0.03, 0.06  # checkpoint intervals, as fractions of all steps

    def stages(self, steps: int) -> Stage:
        """Return one stage with decreasing checkpoint intervals."""
        fractions = (self.first, self.decrease, self.smallest)
        interval, decrease, smallest = (max(int(part * steps), 1) for part in fractions)
        checkpoints, end = [0] * (steps + 1), interval
        while end <= steps:
            checkpoints[end] = interval
            interval = max(interval - decrease, smallest)
            end += interval
        return Stage.stack([1], [checkpoints])

    def initial(self, x: jax.Array, balls: Balls) -> StepSize:
        """Start with 2 eps."""
        zero = jnp.zeros_like(balls.radii)
        return StepSize(2 * balls.radii, zero, zero, jnp.ones(len(x), bool), zero)

    def checkpoint(
        self, step: StepSize, interval: jax.Array, maximum: Maximum, balls: Balls
    ) -> tuple[StepSize, jax.Array]:
        """Halve the step size and restart from the maximum if a condition holds."""
        rarely = step.increases <= self.rho * interval
        stuck = ~step.reduced & (step.reference >= maximum.loss)
        reduced = rarely | stuck
        size = jnp.where(reduced, step.size / 2, step.size)
        zero = jnp.zeros_like(step.increases)
        return StepSize(size, step.fraction, zero, reduced, maximum.loss), reduced

    def move(
        self, here: Maximum, previous: jax.Array, first: jax.Array, step: StepSize, balls: Balls
    ) -> jax.Array:
        """Step and project, then add momentum and project again."""
        threat, weight = balls.threat, jnp.where(first, 1, self.momentum)

        def one(
            x: jax.Array, gradient: jax.Array, change: jax.Array, size: jax.Array, ball: tuple
        ) -> jax.Array:
            new = threat.project(x + threat.step(_direction(gradient), size), *ball)
            new = x + weight * (new - x) + (1 - weight) * change
            return threat.project(new, *ball)

        change = here.x - previous
        ball = balls.centres, balls.radii
        return jax.vmap(one)(here.x, here.gradient, change, step.size, ball)


class AdaptiveSparsity(StepSizeSchedule):
    """L1: from eps, reduced unless the perturbation becomes sparser; radii of 3, 2 and 1 eps.

    Croce and Hein (2021), algorithm 1 and section 3.4. Steps are sparse, without momentum.
    """

    factors, fractions = (3, 2, 1), (0.3, 0.3)  # radii in eps; fractions of steps in the first two
    interval = 0.04  # between checkpoints, as a fraction of a stage's steps
    density = 1.5  # a step changes as many pixels as differ from the original, divided by this
    sparser = 0.95  # below this fraction of the last number of changed pixels, reset the step size
    shrink, smallest = 1.5, 10  # the step size is divided by 1.5, down to eps / 10

    def stages(self, steps: int) -> Stage:
        """Return one stage for each radius."""
        lengths = [math.ceil(fraction * steps) for fraction in self.fractions]
        lengths.append(max(steps - sum(lengths), 1))
        checkpoints = []
        for length in lengths:
            every = max(int(self.interval * length), 1)
            ends = [every * (step > 0 and step % every == 0) for step in range(length + 1)]
            checkpoints.append(ends)
        return Stage.stack(list(self.factors), checkpoints)

    def initial(self, x: jax.Array, balls: Balls) -> StepSize:
        """Start with eps, over a fraction of pixels that follows from those x has changed."""
        number = _num_changed(x, balls)
        zero = jnp.zeros_like(balls.radii)
        no = jnp.zeros(len(x), bool)
        return StepSize(balls.radii, self._fraction(number, x), zero, no, number)

    def checkpoint(
        self, step: StepSize, interval: jax.Array, maximum: Maximum, balls: Balls
    ) -> tuple[StepSize, jax.Array]:
        """Reset to eps and the maximum where that is now sparser; elsewhere reduce the size."""
        number = _num_changed(maximum.x, balls)
        sparser = number < self.sparser * step.reference
        shorter = jnp.maximum(step.size / self.shrink, balls.radii / self.smallest)
        size = jnp.where(sparser, balls.radii, shorter)
        fraction, zero = self._fraction(number, maximum.x), jnp.zeros_like(step.increases)
        return StepSize(size, fraction, zero, ~sparser, number), sparser

    def move(
        self, here: Maximum, previous: jax.Array, first: jax.Array, step: StepSize, balls: Balls
    ) -> jax.Array:
        """Step in a fraction of the pixels and project."""

        def one(
            x: jax.Array, gradient: jax.Array, size: jax.Array, fraction: jax.Array, ball: tuple
        ) -> jax.Array:
            change = L1().sparse_step(_direction(gradient), size, fraction)
            return L1().project(x + change, *ball)

        ball = balls.centres, balls.radii
        return jax.vmap(one)(here.x, here.gradient, step.size, step.fraction, ball)

    def _fraction(self, number: jax.Array, x: jax.Array) -> jax.Array:
        """Return the fraction of an image's pixels that a step changes, [N]."""
        return number / (x[0].size * self.density)


def _direction(gradient: jax.Array) -> jax.Array:
    """Scale a gradient to a largest magnitude of 1, so that tiny gradients do not underflow."""
    return gradient / jnp.maximum(jnp.abs(gradient).max(), jnp.finfo(gradient.dtype).tiny)


def _num_changed(x: jax.Array, balls: Balls) -> jax.Array:
    """Count the pixels that differ from the originals, as a float, [N]."""
    changed = (x != balls.centres).reshape(len(x), -1)
    return changed.sum(-1).astype(balls.radii.dtype)


# The file of a new threat model may add its entry.
SCHEDULES: dict[type[Threat], StepSizeSchedule] = {
    Linf: Halving(),
    L2: Halving(),
    L1: AdaptiveSparsity(),
}
