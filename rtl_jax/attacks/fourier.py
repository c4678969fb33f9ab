"""PGD within a ball of spatial frequencies (paper, appendix A.12): a band, or a budget in it."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.base import Iterate, Problem
from rtl_jax.attacks.pgd import PGD
from rtl_jax.attacks.registry import register
from rtl_jax.attacks.threats import L2, Threat
from rtl_jax.errors import UserError
from rtl_jax.runtime.frequencies import Budget, frequencies_name, require_frequencies


@register("fourier")
@dataclasses.dataclass(frozen=True)
class FourierPGD(PGD):
    """PGD over perturbations delta whose spectrum is limited: ||F(delta) / w|| <= eps.

    F is the unitary discrete Fourier transform, and w, in [0, 1], are the weights of frequencies
    (see `weights`): 0 outside the band, and inside it 1 or the weight of a budget. Without a
    budget, the constraint set is the part of the L2 ball in the band; with a budget, an ellipsoid
    in it.

    The search is in coordinates u with F(delta) = w F(u), in which the ellipsoid is a ball. A step
    is the steepest one in these coordinates. The projection scales u down to eps, which is exact in
    the weighted norm ||F(delta) / w|| but does not yield the nearest point of the ellipsoid in
    pixels.

    The network sees the image plus delta, clamped to [0, 1]; delta itself keeps its frequencies.
    Since clamping makes no perturbation longer and w is at most 1, results lie in the L2 ball of
    eps.

    Attributes:
      low_frequency, high_frequency: the ends of the band, both included, as fractions of the
        highest frequency in each direction, of which the larger counts: 0 is an image's mean, 1 the
        finest checkerboard. (0, 1) is every frequency, which is PGD in L2 except that clamping
        comes last.
      budget: 'flat', '1/f' or 'f': weights as a function of the radial frequency f, scaled to a
        maximum of 1 in the band. '1/f' gives an image's mean the weight of the lowest frequency,
        'f' gives it 0.
      budget_weights: weights to use instead, at least two, at equally spaced radial frequencies
        from 0 to the highest in the image; linear in between.
      Others: as for `PGD`; `norm` is 'l2'.

    Example:
        >>> from rtl_jax.attacks import FourierPGD
        >>> FourierPGD(high_frequency=0.125, steps=50).display_name
        'PGD(50), frequencies 0 to 0.125'
        >>> FourierPGD(high_frequency=1, budget="1/f").display_name
        'PGD(20), frequencies 0 to 1, budget 1/f'
    """

    norm: Threat | str = "l2"
    low_frequency: float = 0.0
    high_frequency: float = 0.25
    budget: Budget = "flat"
    budget_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "budget_weights", tuple(self.budget_weights))
        require_frequencies(self, "FourierPGD: ")

    @classmethod
    def supports(cls, threat: Threat) -> bool:
        """Whether this is L2, whose norm is the same in pixels and in frequencies."""
        return isinstance(threat, L2)

    @property
    def display_name(self) -> str:
        """The name of PGD, with the band and the budget."""
        low, high = float(self.low_frequency), float(self.high_frequency)
        words = frequencies_name(low, high, self.budget, self.budget_weights)
        return f"{super().display_name}, {words}"

    def prepare(self, problem: Problem) -> None:
        """Return nothing, since shared results would be in pixels."""

    def search(self, problem: Problem) -> Iterate:
        """Search over u, starting from zero; return images [N, H, W, C]."""
        weights = self.weights(*problem.images.shape[1:3])

        def seen(u: jax.Array) -> jax.Array:
            return jnp.clip(problem.images + filtered(u, weights), 0, 1)

        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(PGD)}
        found = PGD(**{**fields, "norm": _Ball(self)}).search(
            problem._replace(
                logits_fn=lambda u: problem.logits_fn(seen(u)),
                images=jnp.zeros_like(problem.images),
                shared=None,
            )
        )
        # Rounded towards the original, like every perturbation.
        images = problem.images + filtered(found.images, weights)
        return found._replace(images=jax.vmap(L2().project)(images, problem.images, problem.eps))

    def weights(self, height: int, width: int) -> np.ndarray:
        """Return w, float64 [height, width], for frequencies in the order of `numpy.fft.fft2`.

        Raises UserError if all are 0.
        """
        # From integers, so that the ends of a band are exact.
        steps = [np.abs(np.rint(size * np.fft.fftfreq(size))) / size for size in (height, width)]
        largest = 2 * np.maximum(steps[0][:, None], steps[1])
        radial = np.hypot(steps[0][:, None], steps[1])
        lowest, highest = 1 / max(height, width), max(radial.max(), np.finfo(float).tiny)
        if self.budget_weights:
            places = np.linspace(0, highest, len(self.budget_weights))
            found = np.interp(radial, places, self.budget_weights)
        elif self.budget == "1/f":
            found = lowest / np.maximum(radial, lowest)
        else:
            found = radial if self.budget == "f" else np.ones_like(radial)
        found = found * ((largest >= self.low_frequency) & (largest <= self.high_frequency))
        if not found.any():
            raise UserError(
                f"{self.display_name}: no frequency of {height} x {width} images is allowed: "
                "widen the band or change the budget"
            )
        return found / found.max()


def filtered(change: jax.Array, weights: np.ndarray) -> jax.Array:
    """Multiply the spectrum of each channel of [..., H, W, C] by weights [H, W]."""
    spectrum = jnp.fft.fft2(change, axes=(-3, -2)) * weights[..., None].astype(change.dtype)
    return jnp.fft.ifft2(spectrum, axes=(-3, -2)).real.astype(change.dtype)


@dataclasses.dataclass(frozen=True)
class _Ball(Threat):
    """The L2 ball of u, without bounds on pixels or frequencies of weight 0."""

    settings: FourierPGD

    name: ClassVar[str] = "frequencies"
    display_name: ClassVar[str] = "L2"

    def norm(self, change: jax.Array) -> jax.Array:
        """See `L2.norm`."""
        return L2().norm(change)

    def step(self, gradient: jax.Array, size: jax.Array) -> jax.Array:
        """See `L2.step`; the gradient in u contains only the allowed frequencies."""
        return L2().step(gradient, size)

    def project(self, image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Scale a change longer than eps down to eps."""
        change = image - original
        tiny = jnp.finfo(change.dtype).tiny
        return original + change * jnp.minimum(1, eps / jnp.maximum(self.norm(change), tiny))

    def random_change(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Draw a point on the sphere."""
        allowed = self.settings.weights(*original.shape[:2]) > 0
        change = filtered(jax.random.normal(key, original.shape, original.dtype), allowed)
        return change * (eps / jnp.maximum(self.norm(change), jnp.finfo(change.dtype).tiny))
