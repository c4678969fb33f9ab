"""What an attacker may change: the geometry of each norm, written for one image.

`image` and `original` are float arrays of any one shape with values in [0, 1]; `eps` is the
radius of the ball around `original`, in the same units, and `size` the length of a step.
A batch is `jax.vmap` of these.
"""

from typing import Literal, Protocol

import jax
import jax.numpy as jnp
from jax import lax

Norm = Literal["l2", "linf", "l1", "unconstrained"]
Ball = Literal["l2", "linf", "l1"]

# Halvings of an interval of float32's 24 bits, and a few for the length of its beginning.
_HALVINGS = 32


class Threat(Protocol):
    """A norm's geometry."""

    @staticmethod
    def norm(change: jax.Array) -> jax.Array:
        """The size of a change, a scalar."""

    @staticmethod
    def step(gradient: jax.Array, size: jax.Array) -> jax.Array:
        """The change of one step of this size that follows the gradient."""

    @staticmethod
    def project(image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """`image` brought into the ball around `original`, then into [0, 1].

        Clamping cannot leave the ball: it moves every pixel towards `original`'s.
        """

    @staticmethod
    def random_change(key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Where a random start goes from `original`, before `project`."""


class L2:
    """The Euclidean ball."""

    @staticmethod
    def norm(change: jax.Array) -> jax.Array:
        """The square root of the sum of squares, to a few units in the last place.

        The sum goes pairwise. A plain one in float32 over the 150,528 values of a 224 px image
        may be off by more than the 1e-6 by which no image may leave its ball.
        """
        return jnp.sqrt(_sum(jnp.square(change)))

    @staticmethod
    def step(gradient: jax.Array, size: jax.Array) -> jax.Array:
        """g / (||g|| + 1e-10) * size."""
        return gradient * (size / (L2.norm(gradient) + 1e-10))

    @staticmethod
    def project(image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Scale the change down to length eps, if it is longer; clamp to [0, 1].

        All rounding goes inwards: pixels near 1 have steps of 6e-8 in float32, and as many of
        them as an image has could leave a small ball by more than 1e-5.
        """
        change = image - original
        norm = L2.norm(change)
        limit = _just_inside(eps, change)
        change *= jnp.minimum(1, limit / jnp.maximum(norm, jnp.finfo(change.dtype).tiny))
        return jnp.clip(_moved(original, change), 0, 1)

    @staticmethod
    def random_change(key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """A point of the sphere: a Gaussian direction, eps long."""
        direction = jax.random.normal(key, original.shape, original.dtype)
        return direction * (eps / L2.norm(direction))


class Linf:
    """The box of +-eps."""

    @staticmethod
    def norm(change: jax.Array) -> jax.Array:
        """The largest absolute value."""
        return jnp.abs(change).max()

    @staticmethod
    def step(gradient: jax.Array, size: jax.Array) -> jax.Array:
        """sign(g) * size."""
        return jnp.sign(gradient) * size

    @staticmethod
    def project(image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Clamp the change to +-eps, the result to [0, 1]."""
        return jnp.clip(original + jnp.clip(image - original, -eps, eps), 0, 1)

    @staticmethod
    def random_change(key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Uniform in +-eps, every pixel by itself."""
        return eps * jax.random.uniform(key, original.shape, original.dtype, -1, 1)


class L1:
    """The cross-polytope: the sum of all pixels' changes is limited."""

    @staticmethod
    def norm(change: jax.Array) -> jax.Array:
        """The sum of absolute values, to a few units in the last place."""
        return _sum(jnp.abs(change))

    @staticmethod
    def step(gradient: jax.Array, size: jax.Array, share: jax.Array | float = 1.0) -> jax.Array:
        """`size` divided equally over the `share` of pixels with the largest gradients.

        The steepest step has one pixel, and is too sparse to be of use (Croce and Hein, 2021,
        section 3.2).
        """
        magnitudes = jnp.abs(gradient).ravel()
        place = jnp.asarray((1 - share) * magnitudes.size, int).clip(0, magnitudes.size - 1)
        chosen = jnp.abs(gradient) >= jnp.sort(magnitudes)[place]
        signs = jnp.where(chosen, jnp.sign(gradient), 0)
        return signs * (size / jnp.maximum(jnp.abs(signs).sum(), 1))

    @staticmethod
    def project(image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """The nearest image, in L2, in the ball and in [0, 1] at once.

        Every change is shortened by the same amount, to nothing at least, and clamped
        (Croce and Hein, 2021, proposition 2.2); the amount is found by halving.
        """
        change = image - original
        signs, sizes = jnp.sign(change), jnp.abs(change)
        room = jnp.where(change > 0, 1 - original, original)
        limit = _just_inside(eps, change)

        def left(amount: jax.Array) -> jax.Array:
            return jnp.clip(sizes - amount, 0, room)

        def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = ends
            middle = (low + high) / 2
            fits = left(middle).sum() <= limit
            return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

        zero = jnp.zeros((), sizes.dtype)
        _, amount = lax.fori_loop(0, _HALVINGS, halve, (zero, sizes.max()))
        change = left(jnp.where(L1.norm(left(zero)) <= limit, zero, amount))
        # What a plain sum has taken for less than it is.
        change *= jnp.minimum(1, limit / jnp.maximum(L1.norm(change), jnp.finfo(change.dtype).tiny))
        return jnp.clip(_moved(original, signs * change), 0, 1)

    @staticmethod
    def random_change(key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """N(0, 1) for every pixel, which `project` brings into the ball."""
        return jax.random.normal(key, original.shape, original.dtype)


class Unconstrained:
    """All images: only [0, 1] limits them. Steps follow the gradient as it is.

    There is no radius: what `project` and `random_change` are given as eps is the step's size.
    """

    @staticmethod
    def norm(change: jax.Array) -> jax.Array:
        """The Euclidean length."""
        return L2.norm(change)

    @staticmethod
    def step(gradient: jax.Array, size: jax.Array) -> jax.Array:
        """g * size."""
        return gradient * size

    @staticmethod
    def project(image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Clamp to [0, 1]."""
        return jnp.clip(image, 0, 1)

    @staticmethod
    def random_change(key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """A Gaussian direction, one step long."""
        return L2.random_change(key, original, eps)


THREATS: dict[Norm, type[Threat]] = {
    "l2": L2,
    "linf": Linf,
    "l1": L1,
    "unconstrained": Unconstrained,
}


def _sum(values: jax.Array) -> jax.Array:
    """The sum of all values, pairwise: as exact as a float has bits, however many they are."""
    values = values.ravel()
    while values.size > 1:
        values = jnp.pad(values, (0, -values.size % 64)).reshape(64, -1)
        for half in (32, 16, 8, 4, 2, 1):
            values = values[:half] + values[half:]
        # XLA would otherwise fuse the whole tree into one very long expression.
        values = lax.optimization_barrier(values[0])
    return values[0]


def _just_inside(eps: jax.Array, change: jax.Array) -> jax.Array:
    """eps, less the rounding of a norm."""
    return eps * (1 - 4 * jnp.finfo(change.dtype).eps)


def _moved(original: jax.Array, change: jax.Array) -> jax.Array:
    """original + change, every pixel rounded towards `original`."""
    image = original + change
    too_far = jnp.abs(image - original) > jnp.abs(change)
    return jnp.where(too_far, jnp.nextafter(image, original), image)
