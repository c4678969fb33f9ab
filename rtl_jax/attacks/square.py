"""Square: a random search that uses only the network's logits.

Andriushchenko et al. (2020), algorithm 1 with algorithms 2 (Linf) and 3 (L2); for L1, Croce and
Hein (2021), section 4.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.base import Iterate, Problem
from rtl_jax.attacks.losses import judge
from rtl_jax.attacks.patches import PATCHES
from rtl_jax.attacks.registry import register
from rtl_jax.attacks.restarts import Found, RestartedAttack
from rtl_jax.attacks.threats import Threat
from rtl_jax.errors import UserError


@register("square")
@dataclasses.dataclass(frozen=True)
class Square(RestartedAttack):
    """Square (Andriushchenko et al., 2020), a black-box attack on [N, H, W, C]. Needs a key.

    Attributes:
      norm: 'linf', 'l2' or 'l1'.
      queries: the number of sequential proposals.
      restarts: the number of random starts.

    Example:
        >>> from rtl_jax.attacks import Square
        >>> Square("linf").queries
        5000
    """

    norm: Threat | str
    queries: int = 5000
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("queries", "restarts")

    @classmethod
    def supports(cls, threat: Threat) -> bool:
        """Whether `patches` has proposals for the threat model."""
        return type(threat) in PATCHES

    @property
    def display_name(self) -> str:
        """The name that AutoAttack uses."""
        return "square"

    def num_restarts(self, num_classes: int) -> int:
        """Return `restarts`."""
        return self.restarts

    def restart(
        self, problem: Problem, clean_logits: jax.Array, keys: jax.Array, index: jax.Array
    ) -> Iterate:
        """Propose patches and keep those that raise the margin; see `RestartedAttack.restart`."""
        images, labels, eps = problem.images, problem.labels, problem.eps
        if images.ndim != 4:
            raise UserError(f"Square: expected images [N, H, W, C], received {images.shape}")
        shape = images.shape[1], images.shape[2], images.shape[3]
        patches = PATCHES[type(self.threat)](shape, self.threat)

        def unfinished(carry: tuple) -> jax.Array:
            query, *_, found = carry
            return (query <= self.queries) & ~found.done.all()

        def go(carry: tuple) -> tuple:
            query, x, best, value, found = carry
            logits = problem.logits_fn(x)
            losses, success, _ = judge(logits, labels, self.loss, False)
            better = (losses > value) | success
            best = jax.vmap(jnp.where)(better, x, best)
            value = jnp.where(better, losses, value).astype(value.dtype)
            found = found.update(x, labels, logits, self.loss)
            new = jax.vmap(jax.random.fold_in, (0, None))(keys, query + 1)
            x = jax.vmap(patches.propose, (0, None, 0, 0, 0))(new, query, best, images, eps)
            return query + 1, x, best, value, found

        first = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
        x = jax.vmap(patches.start)(first, images, eps)
        nothing = jnp.full(len(x), -jnp.inf, x.dtype)
        found = Found.initial(problem, clean_logits, self.loss)
        begun = jnp.zeros((), int), x, x, nothing, found
        return lax.while_loop(unfinished, go, begun)[-1].best
