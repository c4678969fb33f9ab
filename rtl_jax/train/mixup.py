"""Mixup: a batch mixed with itself (Zhang et al., 2018)."""

from typing import NamedTuple

import jax

# What the key of the augmentation is folded with; itself it folds in epochs, which are fewer.
_MIXUP = 2**32 - 1


class Mixed(NamedTuple):
    """How a batch is mixed with itself: the share of each image, [], and the order, int [N], in
    which the others join.
    """

    share: jax.Array
    order: jax.Array

    @classmethod
    def draw(cls, key: jax.Array, step: jax.Array, alpha: float, number: int) -> "Mixed":
        """For the batch of a step, of as many images: the share is from Beta(alpha, alpha).

        `key` is the training's, of the augmentation.
        """
        own = jax.random.fold_in(jax.random.fold_in(key, _MIXUP), step)
        share_key, order_key = jax.random.split(own)
        order = jax.random.permutation(order_key, number)
        return cls(jax.random.beta(share_key, alpha, alpha), order)

    def mix(self, images: jax.Array) -> jax.Array:
        """The images [N, ...], mixed."""
        share = self.share.astype(images.dtype)
        return share * images + (1 - share) * images[self.order]
