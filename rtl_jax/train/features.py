"""The frozen prefix: its features at the split point, and re-estimation of its statistics.

With constant statistics ('source', and 'adapt' after its pass) the prefix is a constant function,
so its features can be cached.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data.augmentation import Augmentation
from rtl_jax.data.batching import batches_of_few_sizes
from rtl_jax.data.transforms import augment_batch, example_keys, prepare
from rtl_jax.models.model import batch_stats_of, bind, definition, variable_shapes
from rtl_jax.models.registry import Module, Variables
from rtl_jax.runtime.caching import cached
from rtl_jax.runtime.progress import Progress
from rtl_jax.train.freeze import trainable
from rtl_jax.train.split import SplitNetwork


@cached
def feature_shape(network: SplitNetwork) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of one image's features, without computing them."""
    size = network.image_size

    def one(params: Variables, batch_stats: Variables, images: jax.Array) -> jax.Array:
        return _bound(network, params, batch_stats).prefix(images, network.split)[0]

    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(one, *variable_shapes(network.architecture), images)


def _bound(network: SplitNetwork, params: Variables, batch_stats: Variables) -> Module:
    return bind(definition(network.architecture, dtype=network.dtype), params, batch_stats)


@partial(jax.jit, static_argnums=(0, 1))
def batch_features(
    network: SplitNetwork,
    augmentation: Augmentation,
    params: Variables,
    batch_stats: Variables,
    images: jax.Array,
    *,
    rows: jax.Array,
    view: jax.Array,
) -> jax.Array:
    """Compute features at the split point of images [N, H, W, C], augmented by row and view."""
    keys = example_keys(jax.random.key(0), view, rows)
    pixels = augment_batch(keys, prepare(images, network.image_size), augmentation)
    return _bound(network, params, batch_stats).prefix(pixels, network.split)


def prefix_features(
    network: SplitNetwork,
    params: Variables,
    batch_stats: Variables,
    images: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    *,
    augmentation: Augmentation | None = None,
    view: int = 0,
) -> Iterator[jax.Array]:
    """Yield features at the split point of images (uint8 [N, H, W, C]) at `rows`, in batches.

    A batch is [batch, height, width, channels] in the network's dtype, or [batch, num_features]
    after the last block. With an augmentation, images are augmented by their `view`-th draw, which
    depends only on the row, not on a run's seed or the rest of the batch.
    """
    for part in batches_of_few_sizes(len(rows), batch_size):
        padded = rows[part.rows]
        batch = batch_features(
            network,
            augmentation or Augmentation(),
            params,
            batch_stats,
            images[padded],
            rows=padded,
            view=view,
        )
        yield batch[: part.number]


@partial(jax.jit, static_argnums=0)
def _batch_statistics(
    network: SplitNetwork, params: Variables, batch_stats: Variables, images: jax.Array
) -> Variables:
    """Measure the statistics of each layer before the split point on one batch, in train mode."""
    bound = _bound(network, params, batch_stats)
    bound.prefix(prepare(images, network.image_size), network.split, train=True)
    # Recover the batch statistics: the running ones moved a fraction of the way towards them.
    momentum = network.architecture.bn_momentum
    return jax.tree.map(
        lambda new, old: old + (new - old) / momentum, batch_stats_of(bound), batch_stats
    )


def adapt_statistics(
    network: SplitNetwork,
    params: Variables,
    batch_stats: Variables,
    images: np.ndarray,
    batch_size: int,
    progress: Progress = lambda done: None,
) -> Variables:
    """Re-estimate the statistics of frozen layers on the training images (mode 'adapt').

    Makes one pass in train mode over the stored images (uint8 [N, H, W, C]), in order and without
    augmentation, and averages batch means and unbiased variances, weighted by batch size. Layers
    after the split point keep their statistics.
    """
    zero = {path: jnp.zeros_like(leaf) for path, leaf in batch_stats.items()}
    total = zero
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        measured = _batch_statistics(network, params, zero, batch)
        share = len(batch) / len(images)
        total = {path: total[path] + share * measured[path] for path in total}
        progress(len(batch))
    return {
        path: leaf if trainable(network.architecture, path, network.blocks) else total[path]
        for path, leaf in batch_stats.items()
    }
