"""Square: a random search that asks the network for logits alone.

Andriushchenko et al. (2020), algorithm 1 with 2 (Linf) and 3 (L2); for L1 Croce and Hein (2021),
section 4.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.attacks.losses import judge
from rtl_jax.attacks.pgd import Iterate, LogitsFn
from rtl_jax.attacks.runs import Fall, Runs
from rtl_jax.attacks.windows import Windows
from rtl_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Square(Runs):
    """Square, hashable and used like `PGD`, for images [N, H, W, C] alone; it needs a key.

    norm: 'linf', 'l2' or 'l1'.
    queries: changes that are tried, one after the other.
    restarts: runs from so many random starts.
    """

    queries: int = 5000
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("queries", "restarts")

    def runs(self, classes: int) -> int:
        """One for each restart."""
        return self.restarts

    def run(
        self,
        logits_fn: LogitsFn,
        images: jax.Array,
        labels: jax.Array,
        eps: jax.Array,
        keys: jax.Array,
        clean: jax.Array,
        number: jax.Array,
    ) -> Iterate:
        """As `Runs.run`: change a window, and keep the change where the margin has risen."""
        if images.ndim != 4:
            raise UserError(f"Square: expected images [N, H, W, C], received {images.shape}")
        windows = Windows((images.shape[1], images.shape[2], images.shape[3]), self.norm)

        def unfinished(carry: tuple) -> jax.Array:
            query, *_, fall = carry
            return (query <= self.queries) & ~fall.done.all()

        def go(carry: tuple) -> tuple:
            query, x, best, value, fall = carry
            logits = logits_fn(x)
            losses, success, _ = judge(logits, labels, self.loss, False)
            better = (losses > value) | success
            best = jax.vmap(jnp.where)(better, x, best)
            value = jnp.where(better, losses, value).astype(value.dtype)
            fall = fall.met(x, labels, logits, self.loss)
            new = jax.vmap(jax.random.fold_in, (0, None))(keys, query + 1)
            x = jax.vmap(windows.change, (0, None, 0, 0, 0))(new, query, best, images, eps)
            return query + 1, x, best, value, fall

        first = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
        x = jax.vmap(windows.start)(first, images, eps)
        nothing = jnp.full(len(x), -jnp.inf, x.dtype)
        fall = Fall.of(images, labels, clean, self.loss)
        begun = jnp.zeros((), int), x, x, nothing, fall
        return lax.while_loop(unfinished, go, begun)[-1].best
