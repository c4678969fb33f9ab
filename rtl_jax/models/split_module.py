"""A network that can be split at any block boundary, whatever its blocks are.

A split point counts the blocks before it: 0 is just behind the stem, `num_blocks` behind the last
block, where features are what the head sees, [N, num_features]; BEFORE_STEM (-1) leaves
everything to the suffix. `suffix(prefix(images, split), split)` is the network, for
every split point.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.errors import UserError
from rtl_jax.models.architecture import BEFORE_STEM


class SplitModule(nnx.Module):
    """A family's module has a stem, blocks and a pooling; this runs any part of it."""

    architecture: Any
    dtype: jnp.dtype
    head: nnx.Module

    def run_stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Map normalised images [N, H, W, 3] to what the first block sees."""
        raise NotImplementedError

    def run_block(self, index: int, features: jax.Array, train: bool) -> jax.Array:
        """Map what a block sees to what it puts out."""
        raise NotImplementedError

    def pool(self, features: jax.Array) -> jax.Array:
        """Map what the last block puts out to what the head sees, [N, num_features]."""
        raise NotImplementedError

    def check_size(self, height: int, width: int) -> None:
        """Raise UserError for images of a size that the network cannot take."""

    def normalize(self, images: jax.Array) -> jax.Array:
        """Clamp pixels to [0, 1], subtract the mean, divide by the standard deviation."""
        mean = jnp.asarray(self.architecture.mean, images.dtype)
        std = jnp.asarray(self.architecture.std, images.dtype)
        # By comparison, as torch's clamp: `jnp.clip` halves the gradient of a value that lies on
        # a bound, and black and white pixels, and all that an attack has clamped, lie there.
        clamped = jnp.where(images < 0, 0, jnp.where(images > 1, 1, images))
        return (clamped - mean) / std

    def _run(self, features: jax.Array, start: int, stop: int, train: bool) -> jax.Array:
        """From split point `start` to split point `stop`; pooled if `stop` is the last."""
        if start == BEFORE_STEM and stop > BEFORE_STEM:
            self.check_size(*features.shape[1:3])
            features = self.run_stem(self.normalize(features).astype(self.dtype), train)
        for index in range(max(start, 0), max(stop, 0)):
            features = self.run_block(index, features, train)
        if stop == self.architecture.num_blocks and start < stop:
            features = self.pool(features)
        return features

    def _check(self, split: int) -> None:
        if not BEFORE_STEM <= split <= self.architecture.num_blocks:
            raise UserError(
                f"{self.architecture.name} can be split at {BEFORE_STEM} to "
                f"{self.architecture.num_blocks}, not at {split}"
            )

    def prefix(self, images: jax.Array, split: int, *, train: bool = False) -> jax.Array:
        """Map images [N, H, W, 3] to the features at a split point.

        With `train`, batch statistics normalise and the running ones move, where there are any.
        """
        self._check(split)
        return self._run(images, BEFORE_STEM, split, train)

    def suffix(self, features: jax.Array, split: int, *, train: bool = False) -> jax.Array:
        """Map the features at a split point to logits [N, classes]."""
        self._check(split)
        return self.head(self._run(features, split, self.architecture.num_blocks, train))  # type: ignore[operator]

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images [N, H, W, 3] to logits [N, classes]."""
        return self.suffix(images, BEFORE_STEM, train=train)
