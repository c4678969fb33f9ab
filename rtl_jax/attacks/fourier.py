"""PGD within a ball of spatial frequencies (paper, appendix A.12): a band, or a budget for each."""

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

    F is the unitary discrete Fourier transform and w, from 0 to 1, what `weights` says of each
    frequency: 0 outside of the band, in it 1 or the share that a budget gives. Without a budget
    this is the L2 ball's part in the band; with one, an ellipsoid in it.

    The search is in the coordinates u with F(delta) = w F(u), in which the ellipsoid is a ball: a
    step is the steepest one there, and the projection, exact in the weighted norm ||F(delta) / w||,
    shortens u to eps. (It is not the nearest point of the ellipsoid in pixels.)

    What the network sees is the image plus delta, clamped to [0, 1]; delta itself keeps to its
    frequencies. Clamping makes no perturbation longer, and w is at most 1, so that results lie in
    the L2 ball of eps.

    Attributes:
      low_frequency, high_frequency: ends of the band, both inside, as shares of the highest
        frequency in each direction, the larger of the two counting: 0 is an image's mean, 1 the
        finest checks. (0, 1) is every frequency, and then this is PGD in L2 but for the clamping,
        which it does last.
      budget: 'flat', '1/f' or 'f': weights over the radial frequency f, scaled so that the band's
        largest is 1. '1/f' gives an image's mean what it gives the lowest frequency, 'f' nothing.
      budget_weights: others in place of these, at equal distances from radial frequency 0 to the
        highest that images have, at least two; linear in between.
      Others: as of `PGD`, whose `norm` is 'l2' here.

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
        """L2, whose length is the same in pixels and in frequencies."""
        return isinstance(threat, L2)

    @property
    def display_name(self) -> str:
        """PGD, the band and the budget."""
        low, high = float(self.low_frequency), float(self.high_frequency)
        words = frequencies_name(low, high, self.budget, self.budget_weights)
        return f"{super().display_name}, {words}"

    def prepare(self, problem: Problem) -> None:
        """Nothing: what is shared would be in pixels."""

    def search(self, problem: Problem) -> Iterate:
        """Search in u, from zero; return images [N, H, W, C]."""
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
        # Rounded inwards, as every perturbation is.
        images = problem.images + filtered(found.images, weights)
        return found._replace(images=jax.vmap(L2().project)(images, problem.images, problem.eps))

    def weights(self, height: int, width: int) -> np.ndarray:
        """Return w, float64 [height, width], of the frequencies in the order of `numpy.fft.fft2`.

        Raises UserError where all are 0.
        """
        # From whole numbers, so that a band's ends are exact.
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
    """The L2 ball of u, in any pixels, without the frequencies whose weight is 0."""

    settings: FourierPGD

    name: ClassVar[str] = "frequencies"
    display_name: ClassVar[str] = "L2"

    def norm(self, change: jax.Array) -> jax.Array:
        """As of `L2`."""
        return L2().norm(change)

    def step(self, gradient: jax.Array, size: jax.Array) -> jax.Array:
        """As of `L2`: the gradient in u has the allowed frequencies alone."""
        return L2().step(gradient, size)

    def project(self, image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Shorten the change where it is longer than eps."""
        change = image - original
        tiny = jnp.finfo(change.dtype).tiny
        return original + change * jnp.minimum(1, eps / jnp.maximum(self.norm(change), tiny))

    def random_change(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """A point on the sphere."""
        allowed = self.settings.weights(*original.shape[:2]) > 0
        change = filtered(jax.random.normal(key, original.shape, original.dtype), allowed)
        return change * (eps / jnp.maximum(self.norm(change), jnp.finfo(change.dtype).tiny))
