"""The Gaussian perturbation: noise of the same size instead of an attack (paper, section 7)."""

import dataclasses

import jax

from rtl_jax.attacks.base import Attack, Iterate, Problem, require_key
from rtl_jax.attacks.losses import Loss, judge
from rtl_jax.attacks.registry import register
from rtl_jax.attacks.threats import Threat


@register("gaussian")
@dataclasses.dataclass(frozen=True)
class Gaussian(Attack):
    """Gaussian noise, projected onto the ball and [0, 1] (paper, A.10). Needs a key.

    Every pixel receives noise from N(0, sigma^2). With sigma = 1, the noise of a 224 px image has
    L2 norm 388, so in the paper's L2 ball of radius 3 the result is a random point on the sphere.
    """

    norm: Threat | str = "l2"
    sigma: float = 1.0
    loss: Loss = "cross_entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(0 < self.sigma < float("inf"), "sigma", "a positive number")

    @property
    def display_name(self) -> str:
        """The name in figures and tables."""
        return "Gaussian noise"

    def perturb(self, images: jax.Array, eps: jax.Array, keys: jax.Array) -> jax.Array:
        """Add noise to float images [N, ...] in [0, 1], with eps [N] and one key per image."""

        def one(key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
            noise = self.sigma * jax.random.normal(key, image.shape, image.dtype)
            return self.threat.project(image + noise, image, eps)

        return jax.vmap(one)(keys, images, eps)

    def search(self, problem: Problem) -> Iterate:
        """Add noise and evaluate the network once."""
        noisy = self.perturb(problem.images, problem.eps, require_key(problem))
        verdict = judge(problem.logits_fn(noisy), problem.labels, self.loss, self.targeted)
        return Iterate(noisy, *verdict)
