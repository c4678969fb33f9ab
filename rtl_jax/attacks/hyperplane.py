"""The nearest point of a hyperplane within [0, 1], in every norm, for one image.

Croce and Hein (2020, "Minimally distorted adversarial examples with a fast adaptive boundary
attack"), equation 5 and appendix A.
"""

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.threat import Ball

_HALVINGS = 32
_NEWTON_STEPS = 50  # rarely more than ten: one for each time that pixels reach their end


def nearest(norm: Ball, point: jax.Array, normal: jax.Array, gap: jax.Array) -> jax.Array:
    """The smallest change, in that norm, that brings a point in [0, 1] onto a hyperplane.

    point: of any shape, as the change that is returned; it stays in [0, 1].
    normal: the hyperplane's, of the same shape.
    gap: normal . point less the hyperplane's offset, a scalar: what the change has to take away.
        Where [0, 1] ends before that, the change goes to its corner.
    """
    largest = jnp.maximum(jnp.abs(normal).max(), jnp.finfo(normal.dtype).tiny)
    normal, gap = normal / largest, gap / largest
    direction = -jnp.sign(gap) * jnp.sign(normal)
    room = jnp.where(direction > 0, 1 - point, point)
    weights = jnp.abs(normal)
    if norm == "l1":
        return direction * _steepest(weights, room, jnp.abs(gap))
    speeds = weights if norm == "l2" else jnp.sign(weights)
    return direction * _alike(weights, speeds, room, jnp.abs(gap))


def _alike(weights: jax.Array, speeds: jax.Array, room: jax.Array, gap: jax.Array) -> jax.Array:
    """All pixels go at their speeds for the same time, each until its room ends.

    What that gains is concave in time, so Newton's method comes from below and ends exactly.
    """

    def sizes(time: jax.Array) -> jax.Array:
        return jnp.minimum(time * speeds, room)

    def missing(time: jax.Array) -> jax.Array:
        return gap - (weights * sizes(time)).sum()

    def slope(time: jax.Array) -> jax.Array:
        return jnp.where(time * speeds < room, weights * speeds, 0).sum()

    def unfinished(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        step, time = state
        return (step < _NEWTON_STEPS) & (missing(time) > 1e-6 * gap) & (slope(time) > 0)

    def newton(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        step, time = state
        return step + 1, time + missing(time) / slope(time)

    begin = jnp.zeros((), int), jnp.zeros((), weights.dtype)
    return sizes(lax.while_loop(unfinished, newton, begin)[1])


def _steepest(weights: jax.Array, room: jax.Array, gap: jax.Array) -> jax.Array:
    """The pixels of the largest weights go to the ends of their rooms, the last of them partly."""
    gains = weights * room

    def above(threshold: jax.Array) -> jax.Array:
        return jnp.where(weights > threshold, gains, 0).sum()

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        fits = above(middle) <= gap
        return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

    zero = jnp.zeros((), weights.dtype)
    low, high = lax.fori_loop(0, _HALVINGS, halve, (zero, weights.max()))
    last = (weights > low) & (weights <= high)
    tiny = jnp.finfo(weights.dtype).tiny
    share = (gap - above(high)) / jnp.maximum(jnp.where(last, gains, 0).sum(), tiny)
    return jnp.where(weights > high, room, jnp.where(last, jnp.clip(share, 0, 1) * room, 0))
