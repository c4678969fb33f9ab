"""PGD whose perturbations are made of some spatial frequencies only (paper, appendix A.12)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.base import Iterate, Problem
from rtl_jax.attacks.pgd import PGD
from rtl_jax.attacks.registry import register
from rtl_jax.attacks.threats import L2, Threat


@register("fourier")
@dataclasses.dataclass(frozen=True)
class FourierPGD(PGD):
    """PGD over perturbations delta in a band of frequencies, of L2 norm at most eps.

    What the network sees is the image plus delta, clamped to [0, 1]; delta itself stays in the
    band. Clamping makes no perturbation longer, so that results lie in the L2 ball of eps.

    Attributes:
      low_frequency, high_frequency: ends of the band, both inside, as shares of the highest
        frequency in each direction, the larger of the two counting: 0 is an image's mean, 1 the
        finest checks. (0, 1) is every frequency, and then this is PGD in L2 but for the clamping,
        which it does last.
      Others: as of `PGD`, whose `norm` is 'l2' here.

    Example:
        >>> from rtl_jax.attacks import FourierPGD
        >>> FourierPGD(high_frequency=0.125, steps=50).display_name
        'PGD(50), frequencies 0 to 0.125'
    """

    norm: Threat | str = "l2"
    low_frequency: float = 0.0
    high_frequency: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(0 <= self.low_frequency <= 1, "low_frequency", "a number from 0 to 1")
        self._require(
            self.low_frequency <= self.high_frequency <= 1,
            "high_frequency",
            f"a number from low_frequency, {self.low_frequency:g}, to 1",
        )

    @classmethod
    def supports(cls, threat: Threat) -> bool:
        """L2, whose length is the same in pixels and in frequencies."""
        return isinstance(threat, L2)

    @property
    def display_name(self) -> str:
        """PGD and the band."""
        return (
            f"{super().display_name}, frequencies {self.low_frequency:g} to {self.high_frequency:g}"
        )

    def prepare(self, problem: Problem) -> None:
        """Nothing: what is shared would be in pixels."""

    def search(self, problem: Problem) -> Iterate:
        """Search in delta, from zero; return images [N, H, W, C]."""

        def seen(delta: jax.Array) -> jax.Array:
            return jnp.clip(problem.images + delta, 0, 1)

        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(PGD)}
        search = PGD(**{**fields, "norm": Band(self.low_frequency, self.high_frequency)})
        found = search.search(
            problem._replace(
                logits_fn=lambda delta: problem.logits_fn(seen(delta)),
                images=jnp.zeros_like(problem.images),
                shared=None,
            )
        )
        # Rounded inwards, as every perturbation is.
        images = jax.vmap(L2().project)(problem.images + found.images, problem.images, problem.eps)
        return found._replace(images=images)


@dataclasses.dataclass(frozen=True)
class Band(Threat):
    """Perturbations [H, W, C] of a band of frequencies and limited L2 norm, in any pixels."""

    low: float
    high: float

    name: ClassVar[str] = "band"
    display_name: ClassVar[str] = "L2"

    def norm(self, change: jax.Array) -> jax.Array:
        """As of `L2`."""
        return L2().norm(change)

    def step(self, gradient: jax.Array, size: jax.Array) -> jax.Array:
        """A step of `L2` along the part of the gradient that is in the band."""
        return L2().step(self.filtered(gradient), size)

    def project(self, image: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """Take what is not in the band away, and shorten the rest where it is longer than eps."""
        change = self.filtered(image - original)
        tiny = jnp.finfo(change.dtype).tiny
        return original + change * jnp.minimum(1, eps / jnp.maximum(self.norm(change), tiny))

    def random_change(self, key: jax.Array, original: jax.Array, eps: jax.Array) -> jax.Array:
        """A point on the sphere within the band."""
        change = self.filtered(jax.random.normal(key, original.shape, original.dtype))
        return change * (eps / jnp.maximum(self.norm(change), jnp.finfo(change.dtype).tiny))

    def filtered(self, change: jax.Array) -> jax.Array:
        """The part of a perturbation [H, W, C] that is in the band."""
        # From whole numbers, so that a band's ends are exact.
        shares = [
            2 * np.abs(np.rint(size * np.fft.fftfreq(size))) / size for size in change.shape[:2]
        ]
        largest = np.maximum(shares[0][:, None], shares[1])
        inside = (largest >= self.low) & (largest <= self.high)
        spectrum = jnp.fft.fft2(change, axes=(0, 1)) * inside[..., None]
        return jnp.fft.ifft2(spectrum, axes=(0, 1)).real.astype(change.dtype)
