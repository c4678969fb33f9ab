"""The Gaussian perturbation: no attacker, only noise of the same size (paper, section 7)."""

import dataclasses
import typing

import jax

from rtl_jax.attacks.losses import Loss, judge
from rtl_jax.attacks.pgd import Iterate, LogitsFn
from rtl_jax.attacks.threat import THREATS, Norm
from rtl_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """N(0, sigma^2) for every pixel, projected onto the ball and clamped to [0, 1] (A.10).

    Hashable, and used like `PGD`. At sigma 1 the noise of a 224 px image is 388 long: for the
    paper's L2 ball of 3 the result is a random point of the sphere.
    """

    norm: Norm = "l2"
    sigma: float = 1.0
    loss: Loss = "cross_entropy"

    needs_key: typing.ClassVar[bool] = True
    targeted: typing.ClassVar[bool] = False
    step_size: typing.ClassVar[None] = None
    unroll: typing.ClassVar[bool] = False
    passes: typing.ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.norm not in ("l2", "linf"):
            raise UserError(f"Gaussian: expected the norm 'l2' or 'linf', received {self.norm!r}")
        if not 0 < self.sigma < float("inf"):
            raise UserError(f"Gaussian: sigma: expected a positive number, received {self.sigma}")

    def perturb(self, images: jax.Array, eps: jax.Array, keys: jax.Array) -> jax.Array:
        """Noisy images; float [N, ...] in [0, 1], eps [N], one key for each image."""

        def one(key: jax.Array, image: jax.Array, eps: jax.Array) -> jax.Array:
            noise = self.sigma * jax.random.normal(key, image.shape, image.dtype)
            return THREATS[self.norm].project(image + noise, image, eps)

        return jax.vmap(one)(keys, images, eps)

    def begin(self, logits_fn: LogitsFn, images: jax.Array, labels: jax.Array) -> None:
        """As `PGD.begin`: there is nothing to share."""

    def search(
        self,
        logits_fn: LogitsFn,
        images: jax.Array,
        labels: jax.Array,
        eps: jax.Array,
        keys: jax.Array | None,
        shared: None = None,
        together: int | None = None,
    ) -> Iterate:
        """As `PGD.search`, but `logits_fn` only judges."""
        assert keys is not None
        noisy = self.perturb(images, eps, keys)
        return Iterate(noisy, *judge(logits_fn(noisy), labels, self.loss, self.targeted))
