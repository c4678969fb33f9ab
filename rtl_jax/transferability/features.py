"""A network's features of images at every block boundary, averaged over positions."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from rtl_jax.data.batching import padded_batches
from rtl_jax.data.transforms import prepare
from rtl_jax.models.model import bind, definition
from rtl_jax.models.network import Network
from rtl_jax.models.registry import Variables
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import Progress


class PooledFeatures(NamedTuple):
    """boundaries: float32 [N, d_i] by split point. logits: float32 [N, C], of the source's head."""

    boundaries: dict[int, np.ndarray]
    logits: np.ndarray


def pooled_features(
    network: Network,
    images: np.ndarray,
    image_size: int,
    first: int,
    *,
    batch_size: int = 128,
    progress: Progress = lambda done: None,
) -> PooledFeatures:
    """Compute features of uint8 images [N, H, W, C] at each split point from `first` to the head.

    Feature maps are averaged over height and width, and sequences over tokens.
    """
    static = network.architecture, first, image_size
    variables = dict(network.params), dict(network.batch_stats)
    parts = []
    with devices.matmul_precision("float32"):
        for rows, number, _ in padded_batches(len(images), batch_size):
            found = _pooled(static, *variables, images[rows])
            parts.append(jax.tree.map(lambda leaf, n=number: np.asarray(leaf)[:n], found))
            progress(number)
    boundaries, logits = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return PooledFeatures(dict(enumerate(boundaries, start=first)), logits)


@partial(jax.jit, static_argnums=0)
def _pooled(
    static: tuple, params: Variables, batch_stats: Variables, images: jax.Array
) -> tuple[list[jax.Array], jax.Array]:
    architecture, first, size = static
    network = bind(definition(architecture), params, batch_stats)
    pixels = prepare(images, size)
    # Each boundary is computed from the images; the compiler finds the common parts.
    found = [network.prefix(pixels, at) for at in range(first, architecture.num_blocks + 1)]
    pooled = [one.mean(tuple(range(1, one.ndim - 1))) if one.ndim > 2 else one for one in found]
    return pooled, network.suffix(found[-1], architecture.num_blocks)
