"""Mixup: a batch mixed with itself (Zhang et al., 2018)."""

from typing import NamedTuple

import jax

# Folded into the augmentation key, into which otherwise only epochs, smaller numbers, are folded.
_MIXUP = 2**32 - 1


class Mixed(NamedTuple):
    """The mixing of a batch with itself: the weight of each image, [], and the order, int [N], of
    the images that it is mixed with.
    """

    share: jax.Array
    order: jax.Array

    @classmethod
    def draw(cls, key: jax.Array, step: jax.Array, alpha: float, number: int) -> "Mixed":
        """Draw the mixing of a step's batch of `number` images, with share ~ Beta(alpha, alpha).

        `key` is the augmentation key of the training.
        """
        own = jax.random.fold_in(jax.random.fold_in(key, _MIXUP), step)
        share_key, order_key = jax.random.split(own)
        order = jax.random.permutation(order_key, number)
        return cls(jax.random.beta(share_key, alpha, alpha), order)

    def mix(self, images: jax.Array) -> jax.Array:
        """Mix images [N, ...]."""
        share = self.share.astype(images.dtype)
        return share * images + (1 - share) * images[self.order]
