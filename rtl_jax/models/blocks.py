"""A network as a stem, blocks, a pool and a head, split at any boundary between blocks.

A split point counts the blocks before it: 0 is right after the stem; `num_blocks` is after the last
block and the pool, where features are [N, num_features]; BEFORE_STEM (-1) leaves everything to the
suffix. `suffix(prefix(images, split), split)` is the network, for every split point.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.errors import UserError
from rtl_jax.models.description import BEFORE_STEM

Block = Callable[[jax.Array, bool], jax.Array]


class ClassificationHead(nnx.Module):
    """The final linear layer, with kernel [features, classes] and bias in float32."""

    def __init__(self, features: int, classes: int):
        self.kernel = nnx.Param(jnp.zeros((features, classes)))
        self.bias = nnx.Param(jnp.zeros(classes))

    def __call__(self, features: jax.Array) -> jax.Array:
        return features @ self.kernel[...] + self.bias[...]


class BlockNetwork(nnx.Module):
    """The base class of every family's network.

    A family implements `stem` and `blocks`, and `pool` if it is not a plain mean. It sets
    `architecture`, `dtype` (of stem and blocks) and `fc`, the head, which always computes in
    float32, since logits feed a softmax.
    """

    architecture: Any
    dtype: jnp.dtype
    fc: ClassificationHead

    def blocks(self) -> Sequence[Block]:
        """Return all blocks, from input to output; each is called with features and `train`."""
        raise NotImplementedError

    def stem(self, images: jax.Array, train: bool) -> jax.Array:
        """Compute the input of the first block from normalised images [N, H, W, 3]."""
        raise NotImplementedError

    def pool(self, features: jax.Array, train: bool) -> jax.Array:
        """Compute the input of the head, [N, num_features], from the output of the last block."""
        # Average in at least float32: bfloat16 would lose precision that the head needs.
        return features.mean((1, 2), dtype=jnp.promote_types(features.dtype, jnp.float32))

    def normalize(self, images: jax.Array) -> jax.Array:
        """Clip pixels to [0, 1], subtract the mean and divide by the standard deviation."""
        images = jnp.asarray(images)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise UserError(
                f"images: expected floats in [0, 1], received {images.dtype}: divide by 255, or "
                "use the methods of Network, which take uint8"
            )
        mean = jnp.asarray(self.architecture.mean, images.dtype)
        std = jnp.asarray(self.architecture.std, images.dtype)
        # With comparisons, like torch's clamp: `jnp.clip` halves the gradient at a bound, where
        # black and white pixels lie, and all that an attack has clipped.
        clamped = jnp.where(images < 0, 0, jnp.where(images > 1, 1, images))
        return (clamped - mean) / std

    def _run(self, features: jax.Array, start: int, stop: int, train: bool) -> jax.Array:
        """Run the blocks between two split points, and the pool if `stop` is the last."""
        if start == BEFORE_STEM and stop > BEFORE_STEM:
            features = self.stem(self.normalize(features).astype(self.dtype), train)
        for block in self.blocks()[max(start, 0) : max(stop, 0)]:
            features = block(features, train)
        if stop == self.architecture.num_blocks and start < stop:
            features = self.pool(features, train)
        return features

    def _check(self, split: int) -> None:
        if not BEFORE_STEM <= split <= self.architecture.num_blocks:
            raise UserError(
                f"{self.architecture.name} can be split at {BEFORE_STEM} to "
                f"{self.architecture.num_blocks}, not at {split}"
            )

    def prefix(self, images: jax.Array, split: int, *, train: bool = False) -> jax.Array:
        """Map images [N, H, W, 3] to the features at a split point.

        With `train`, normalisation uses batch statistics and updates the running ones.
        """
        self._check(split)
        return self._run(images, BEFORE_STEM, split, train)

    def suffix(self, features: jax.Array, split: int, *, train: bool = False) -> jax.Array:
        """Map the features at a split point to logits [N, classes]."""
        self._check(split)
        features = self._run(features, split, self.architecture.num_blocks, train)
        return self.fc(features)

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images [N, H, W, 3] to logits [N, classes]."""
        return self.suffix(images, BEFORE_STEM, train=train)
