"""What a network looks at: the gradient of its loss with respect to the pixels."""

import jax
import jax.numpy as jnp

from rtl_jax.attacks.losses import cross_entropy
from rtl_jax.attacks.pgd import LogitsFn


def input_gradients(logits_fn: LogitsFn, images: jax.Array, labels: jax.Array) -> jax.Array:
    """The gradient [N, ...] of each image's cross-entropy; images [N, ...], int labels [N]."""
    return jax.grad(lambda x: cross_entropy(logits_fn(x), labels).sum())(images)


def total_variation(gradients: jax.Array) -> jax.Array:
    """How rough gradients [N, H, W, C] are, [N]: total variation per unit of absolute value.

    The sum of absolute differences between neighbours to the right and below, over the sum of
    absolute values. 0 is a constant; independent noise has 2.8; scaling changes nothing.
    """
    down = jnp.abs(jnp.diff(gradients, axis=1)).sum((1, 2, 3))
    right = jnp.abs(jnp.diff(gradients, axis=2)).sum((1, 2, 3))
    return (down + right) / jnp.abs(gradients).sum((1, 2, 3))
