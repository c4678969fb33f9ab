"""What an attacker may change: the geometry of each norm, written for one image.

`image` and `original` are float arrays of any one shape with values in [0, 1]; `eps` is the
radius of the ball around `original`, in the same units, and `size` the length of a step.
A batch is `jax.vmap` of these.
"""

from typing import Literal, Protocol

import jax
import jax.numpy as jnp
from jax import lax

Norm = Literal["l2", "linf", "unconstrained"]


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
        squares = jnp.square(change).ravel()
        while squares.size > 1:
            squares = jnp.pad(squares, (0, -squares.size % 64)).reshape(64, -1)
            for half in (32, 16, 8, 4, 2, 1):
                squares = squares[:half] + squares[half:]
            # XLA would otherwise fuse the whole tree into one very long expression.
            squares = lax.optimization_barrier(squares[0])
        return jnp.sqrt(squares[0])

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
        precision = jnp.finfo(change.dtype)
        limit = eps * (1 - 4 * precision.eps)
        change *= jnp.minimum(1, limit / jnp.maximum(norm, precision.tiny))
        image = original + change
        too_far = jnp.abs(image - original) > jnp.abs(change)
        image = jnp.where(too_far, jnp.nextafter(image, original), image)
        return jnp.clip(image, 0, 1)

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


THREATS: dict[Norm, type[Threat]] = {"l2": L2, "linf": Linf, "unconstrained": Unconstrained}
