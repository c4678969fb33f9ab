"""Threat models: objects that define what an attacker may change, written for one image.

`image` and `original` are float arrays of the same shape with values in [0, 1]; `eps` is the radius
of the ball around `original`, in the same units, and `size` the length of a step. Use `jax.vmap`
for a batch.

A new threat model is a frozen dataclass that derives from `Threat`; its fields are its parameters.
`PGD` and `Gaussian` accept instances directly; an entry in `THREATS` gives an instance a name.
"""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.projection import project_l1, project_l2, project_linf
from rtl_jax.errors import UserError

# Bisections of an interval: float32's 24 bits, and a few more for its initial length.
_BISECTIONS = 32


class Threat(abc.ABC):
    """A set of allowed changes with a radius eps, and how to search within it.

    Attributes:
      name: its name in settings.
      display_name: its name in figures and tables.
      has_radius: whether there is an eps. If not, methods receive the step size instead.
    """

    name: ClassVar[str]
    display_name: ClassVar[str]
    has_radius: ClassVar[bool] = True

    def __str__(self) -> str:
        """Return the name, with the values of any parameters."""
        names = [one.name for one in dataclasses.fields(self)]  # type: ignore[arg-type]
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.name}({values})" if values else self.name

    @abc.abstractmethod
    def norm(self, change: jax.Array) -> jax.Array:
        """Return the norm of a change, a scalar, which eps bounds."""

    @abc.abstractmethod
    def step(self, gradient: jax.Array, size: jax.Array) -> jax.Array:
        """Return the change made by one ascent step of this size along the gradient."""

    @abc.abstractmethod
    def project(self, image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Project `image` onto the ball around `original` and onto [0, 1].

        An image in both is unchanged, up to rounding.
        """

    @abc.abstractmethod
    def random_change(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw a random change of `original`, which may lie outside the ball and [0, 1]."""

    def random_start(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw a random image within the ball and [0, 1]."""
        return self.project(original + self.random_change(key, original, eps), original, eps)


class NormBall(Threat):
    """The ball of an l_p norm, with a dual norm and a projection onto hyperplanes."""

    dual_order: ClassVar[float]

    def dual_norm(self, gradient: jax.Array) -> jax.Array:
        """Return the largest increase of a linear function with this gradient per unit of eps."""
        return jnp.linalg.norm(gradient.ravel(), self.dual_order)

    @abc.abstractmethod
    def to_hyperplane(self, point: jax.Array, normal: jax.Array, gap: jax.Array) -> jax.Array:
        """Return the smallest change that moves `point` onto a hyperplane within [0, 1].

        gap: normal . point minus the hyperplane's offset, a scalar. See `projection`.
        """


@dataclasses.dataclass(frozen=True)
class L2(NormBall):
    """The Euclidean ball."""

    name: ClassVar[str] = "l2"
    display_name: ClassVar[str] = "L2"
    dual_order: ClassVar[float] = 2

    def norm(self, change: jax.Array) -> jax.Array:
        """Return the square root of the sum of squares, accurate to a few ulps.

        The sum is pairwise: the error of a plain float32 sum over the 150,528 values of a 224 px
        image can exceed 1e-6, the tolerance for images outside their ball.
        """
        return jnp.sqrt(_sum(jnp.square(change)))

    def step(self, gradient: jax.Array, size: jax.Array) -> jax.Array:
        """Return g / (||g|| + 1e-10) * size."""
        return gradient * (size / (self.norm(gradient) + 1e-10))

    def project(self, image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Scale a change longer than eps down to eps, and clip to [0, 1].

        Clipping cannot leave the ball, since it moves every pixel towards that of `original`.
        All rounding is inwards: float32 has a spacing of 6e-8 near 1, and the rounding of all
        pixels together could leave a small ball by more than 1e-5.
        """
        change = image - original
        norm = self.norm(change)
        limit = _just_inside(eps, change)
        change *= jnp.minimum(1, limit / jnp.maximum(norm, jnp.finfo(change.dtype).tiny))
        return jnp.clip(_add(original, change), 0, 1)

    def random_change(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw a point on the sphere: a Gaussian direction scaled to length eps."""
        direction = jax.random.normal(key, original.shape, original.dtype)
        return direction * (eps / self.norm(direction))

    def to_hyperplane(self, point: jax.Array, normal: jax.Array, gap: jax.Array) -> jax.Array:
        """See `project_l2`."""
        return project_l2(point, normal, gap)


@dataclasses.dataclass(frozen=True)
class Linf(NormBall):
    """The box of +-eps."""

    name: ClassVar[str] = "linf"
    display_name: ClassVar[str] = "Linf"
    dual_order: ClassVar[float] = 1

    def norm(self, change: jax.Array) -> jax.Array:
        """Return the largest absolute value."""
        return jnp.abs(change).max()

    def step(self, gradient: jax.Array, size: jax.Array) -> jax.Array:
        """Return sign(g) * size."""
        return jnp.sign(gradient) * size

    def project(self, image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Clip the change to +-eps and the result to [0, 1]."""
        return jnp.clip(original + jnp.clip(image - original, -eps, eps), 0, 1)

    def random_change(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw every pixel independently and uniformly in +-eps."""
        return eps * jax.random.uniform(key, original.shape, original.dtype, -1, 1)

    def to_hyperplane(self, point: jax.Array, normal: jax.Array, gap: jax.Array) -> jax.Array:
        """See `project_linf`."""
        return project_linf(point, normal, gap)


@dataclasses.dataclass(frozen=True)
class L1(NormBall):
    """The cross-polytope, which bounds the sum of absolute changes."""

    name: ClassVar[str] = "l1"
    display_name: ClassVar[str] = "L1"
    dual_order: ClassVar[float] = float("inf")

    def norm(self, change: jax.Array) -> jax.Array:
        """Return the sum of absolute values, accurate to a few ulps."""
        return _sum(jnp.abs(change))

    def step(self, gradient: jax.Array, size: jax.Array) -> jax.Array:
        """Return sign(g) scaled to an L1 norm of `size`: all pixels change equally."""
        return self.sparse_step(gradient, size, 1.0)

    def sparse_step(
        self, gradient: jax.Array, size: jax.Array, fraction: jax.Array | float
    ) -> jax.Array:
        """Divide `size` equally over the `fraction` of pixels with the largest gradients.

        The steepest step changes a single pixel, which is too sparse to be useful (Croce and Hein,
        2021, section 3.2).
        """
        magnitudes = jnp.abs(gradient).ravel()
        place = jnp.asarray((1 - fraction) * magnitudes.size, int).clip(0, magnitudes.size - 1)
        chosen = jnp.abs(gradient) >= jnp.sort(magnitudes)[place]
        signs = jnp.where(chosen, jnp.sign(gradient), 0)
        return signs * (size / jnp.maximum(jnp.abs(signs).sum(), 1))

    def project(self, image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Return the nearest image, in L2, in the intersection of the ball and [0, 1].

        Every change is reduced by the same amount, at most to zero, and clipped (Croce and Hein,
        2021, proposition 2.2); the amount is found by bisection.
        """
        change = image - original
        signs, sizes = jnp.sign(change), jnp.abs(change)
        room = jnp.where(change > 0, 1 - original, original)
        limit = _just_inside(eps, change)

        def shortened(amount: jax.Array) -> jax.Array:
            return jnp.clip(sizes - amount, 0, room)

        def bisect(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = ends
            middle = (low + high) / 2
            fits = shortened(middle).sum() <= limit
            return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

        zero = jnp.zeros((), sizes.dtype)
        _, amount = lax.fori_loop(0, _BISECTIONS, bisect, (zero, sizes.max()))
        change = shortened(jnp.where(self.norm(shortened(zero)) <= limit, zero, amount))
        # The plain sum may have been rounded down.
        norm = jnp.maximum(self.norm(change), jnp.finfo(change.dtype).tiny)
        change *= jnp.minimum(1, limit / norm)
        return jnp.clip(_add(original, signs * change), 0, 1)

    def random_change(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw every pixel from N(0, 1), usually far outside the ball."""
        return jax.random.normal(key, original.shape, original.dtype)

    def to_hyperplane(self, point: jax.Array, normal: jax.Array, gap: jax.Array) -> jax.Array:
        """See `project_l1`."""
        return project_l1(point, normal, gap)


@dataclasses.dataclass(frozen=True)
class Unconstrained(Threat):
    """All images in [0, 1]. Steps follow the raw gradient, and the norm is the Euclidean one."""

    name: ClassVar[str] = "unconstrained"
    display_name: ClassVar[str] = "unconstrained"
    has_radius: ClassVar[bool] = False

    def norm(self, change: jax.Array) -> jax.Array:
        """Return the Euclidean norm."""
        return L2().norm(change)

    def step(self, gradient: jax.Array, size: jax.Array) -> jax.Array:
        """Return g * size."""
        return gradient * size

    def project(self, image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Clip to [0, 1]."""
        return jnp.clip(image, 0, 1)

    def random_change(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw a Gaussian direction, one step long."""
        return L2().random_change(key, original, eps)


# Threat models that settings can name.
THREATS: dict[str, Threat] = {one.name: one for one in (L2(), Linf(), L1(), Unconstrained())}


def as_threat(norm: Threat | str, key: str = "norm") -> Threat:
    """Return a threat model, given as an instance or by its name in `THREATS`.

    Raises UserError, which names `key`, for any other name.
    """
    if isinstance(norm, Threat):
        return norm
    if norm not in THREATS:
        names = ", ".join(map(repr, THREATS))
        raise UserError(f"{key}: expected one of {names}, or a Threat, received {norm!r}")
    return THREATS[norm]


def _sum(values: jax.Array) -> jax.Array:
    """Sum all values pairwise, so that the error hardly grows with their number."""
    values = values.ravel()
    while values.size > 1:
        values = jnp.pad(values, (0, -values.size % 64)).reshape(64, -1)
        for half in (32, 16, 8, 4, 2, 1):
            values = values[:half] + values[half:]
        # Without this, XLA fuses the whole tree into one very long expression.
        values = lax.optimization_barrier(values[0])
    return values[0]


def _just_inside(eps: jax.Array, change: jax.Array) -> jax.Array:
    """Return eps minus the rounding error of a norm."""
    return eps * (1 - 4 * jnp.finfo(change.dtype).eps)


def _add(original: jax.Array, change: jax.Array) -> jax.Array:
    """Return original + change, with every pixel rounded towards `original`."""
    image = original + change
    too_far = jnp.abs(image - original) > jnp.abs(change)
    return jnp.where(too_far, jnp.nextafter(image, original), image)
