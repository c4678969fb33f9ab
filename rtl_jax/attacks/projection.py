"""Project a point of the box [0, 1] onto a hyperplane in an l_p norm, for one image.

Croce and Hein (2020, "Minimally distorted adversarial examples with a fast adaptive boundary
attack"), equation 5 and appendix A.

Every function returns the change of smallest norm that moves `point` onto the hyperplane within
[0, 1] or, if the hyperplane does not meet the box, the change to the corner nearest to it. `point`
and `normal`, the hyperplane's, have the same shape, and the scalar `gap` is normal . point minus
the hyperplane's offset. Use `jax.vmap` for a batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

_BISECTIONS = 32
_NEWTON_STEPS = 50  # rarely more than ten are needed, one whenever pixels reach their bounds


class _Scaled(NamedTuple):
    """The problem, normalised to a largest weight of 1 and non-negative weights.

    direction: the sign of each pixel's change, -1, 0 or 1. weights: the contribution of a unit of
    change. room: how far a pixel can move within [0, 1]. gap: the total contribution needed.
    """

    direction: jax.Array
    weights: jax.Array
    room: jax.Array
    gap: jax.Array

    @classmethod
    def of(cls, point: jax.Array, normal: jax.Array, gap: jax.Array) -> "_Scaled":
        largest = jnp.maximum(jnp.abs(normal).max(), jnp.finfo(normal.dtype).tiny)
        normal, gap = normal / largest, gap / largest
        direction = -jnp.sign(gap) * jnp.sign(normal)
        room = jnp.where(direction > 0, 1 - point, point)
        return cls(direction, jnp.abs(normal), room, jnp.abs(gap))


def project_l2(point: jax.Array, normal: jax.Array, gap: jax.Array) -> jax.Array:
    """Move every pixel in proportion to its weight, up to its bound."""
    scaled = _Scaled.of(point, normal, gap)
    return scaled.direction * _move_at(scaled.weights, scaled)


def project_linf(point: jax.Array, normal: jax.Array, gap: jax.Array) -> jax.Array:
    """Move every pixel of non-zero weight equally far, up to its bound."""
    scaled = _Scaled.of(point, normal, gap)
    return scaled.direction * _move_at(jnp.sign(scaled.weights), scaled)


def project_l1(point: jax.Array, normal: jax.Array, gap: jax.Array) -> jax.Array:
    """Move the pixels of largest weight to their bounds, the last ones part of the way."""
    direction, weights, room, gap = _Scaled.of(point, normal, gap)
    gains = weights * room

    def gain_above(threshold: jax.Array) -> jax.Array:
        return jnp.where(weights > threshold, gains, 0).sum()

    def bisect(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        fits = gain_above(middle) <= gap
        return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

    zero = jnp.zeros((), weights.dtype)
    low, high = lax.fori_loop(0, _BISECTIONS, bisect, (zero, weights.max()))
    last = (weights > low) & (weights <= high)
    tiny = jnp.finfo(weights.dtype).tiny
    fraction = (gap - gain_above(high)) / jnp.maximum(jnp.where(last, gains, 0).sum(), tiny)
    partly = jnp.where(last, jnp.clip(fraction, 0, 1) * room, 0)
    return direction * jnp.where(weights > high, room, partly)


def _move_at(speeds: jax.Array, scaled: _Scaled) -> jax.Array:
    """Compute how far pixels move at these speeds, up to their bounds, until the gap is closed.

    The closed part of the gap is concave and piecewise linear in time, so Newton's method
    approaches the solution from below and is exact.
    """
    _, weights, room, gap = scaled

    def moved(time: jax.Array) -> jax.Array:
        return jnp.minimum(time * speeds, room)

    def remaining(time: jax.Array) -> jax.Array:
        return gap - (weights * moved(time)).sum()

    def slope(time: jax.Array) -> jax.Array:
        return jnp.where(time * speeds < room, weights * speeds, 0).sum()

    def unfinished(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        step, time = state
        return (step < _NEWTON_STEPS) & (remaining(time) > 1e-6 * gap) & (slope(time) > 0)

    def newton(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        step, time = state
        return step + 1, time + remaining(time) / slope(time)

    start = jnp.zeros((), int), jnp.zeros((), weights.dtype)
    return moved(lax.while_loop(unfinished, newton, start)[1])
