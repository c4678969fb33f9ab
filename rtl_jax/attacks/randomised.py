"""Randomised networks, attacked in expectation (Athalye et al., 2018)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

RandomLogitsFn = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Randomised:
    """A network that takes a key, represented by its mean logits over `passes` draws.

    logits_fn: images [N, ...] and one key to logits [N, C]. It is called for each image separately
        with the image's key, so that draws do not depend on the batch.
    keys: one per image, [N].
    """

    logits_fn: RandomLogitsFn
    keys: jax.Array
    passes: int

    def __call__(self, images: jax.Array) -> jax.Array:
        """Compute the mean logits [N, C], with the same draws in every call."""
        draws = jnp.arange(self.passes)
        return lax.map(lambda number: self.draw(images, 0, number), draws).mean(0)

    def draw(self, images: jax.Array, step: jax.Array | int, number: jax.Array | int) -> jax.Array:
        """Compute the logits [N, C] of one draw, numbered within a step (0: outside any step)."""

        def one(image: jax.Array, key: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.fold_in(key, step), number)
            return self.logits_fn(image[None], key)[0]

        return jax.vmap(one)(images, self.keys)
