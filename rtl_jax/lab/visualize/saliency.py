"""Saliency maps: the gradient of the loss with respect to the pixels.

Gradients of a robust network follow the visible object, while those of a natural one look like
noise; `total_variation` quantifies this.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.base import LogitsFn
from rtl_jax.attacks.losses import LOSSES, Loss
from rtl_jax.data import ImageSet
from rtl_jax.data.transforms import prepare

BATCH = 100


@partial(jax.jit, static_argnames="loss")
def input_gradients(
    logits_fn: LogitsFn, images: jax.Array, labels: jax.Array, loss: Loss = "cross_entropy"
) -> jax.Array:
    """Return the gradient [N, ...] of each image's own loss; float images [N, ...], int labels [N].

    With the loss 'logit' it is that of -z_y, the direction that lowers the label's logit.
    """
    return jax.grad(lambda x: LOSSES[loss](logits_fn(x), labels).sum())(images)


def total_variation(gradients: jax.Array) -> jax.Array:
    """Return the roughness [N] of gradients [N, H, W, C]: total variation over absolute value.

    It is the sum of absolute differences between neighbours to the right and below, divided by the
    sum of absolute values: 0 for a constant, 2.8 for independent noise, nan for zeros. It is
    invariant to scaling.
    """
    down = jnp.abs(jnp.diff(gradients, axis=1)).sum((1, 2, 3))
    right = jnp.abs(jnp.diff(gradients, axis=2)).sum((1, 2, 3))
    return (down + right) / jnp.abs(gradients).sum((1, 2, 3))


def prepared(images: ImageSet, image_size: int) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Yield batches of images prepared for networks, float32 [N, size, size, 3], and labels."""
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        yield prepare(images.images[part], image_size), jax.device_put(images.labels[part])


def gradients(
    logits_fn: LogitsFn,
    batches: Iterable[tuple[jax.Array, jax.Array]],
    loss: Loss = "cross_entropy",
) -> Iterator[np.ndarray]:
    """Yield `input_gradients` of each batch, on the host."""
    for images, labels in batches:
        yield np.asarray(input_gradients(logits_fn, images, labels, loss))


def visible(gradients: np.ndarray) -> np.ndarray:
    """Map gradients [N, H, W, 3] to pixels in [0, 1]: 0 is grey, the ends are 3 std. deviations."""
    scale = 3 * gradients.std((1, 2, 3), keepdims=True)
    return np.clip(gradients / np.maximum(scale, np.finfo(np.float32).tiny) / 2 + 0.5, 0, 1)
