"""The frozen prefix, computed once: features at the cut, and re-estimated statistics.

With statistics that do not move ('source', and 'adapt' after its pass) the prefix is a
constant function, so its features can be kept.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data.transforms import prepare
from rtl_jax.models.layers import BN_MOMENTUM
from rtl_jax.models.resnet import (
    BEFORE_STEM,
    Variables,
    batch_stats_of,
    bind,
    definition,
    variable_shapes,
)
from rtl_jax.transfer.freeze import trainable
from rtl_jax.transfer.step import Frozen, Program, TrainState

Progress = Callable[[int], None]


def feature_bytes(program: Program, num_images: int) -> int:
    """What the features of so many images take, in bytes; nothing is computed."""
    size = program.image_size
    graphdef = definition(program.architecture, dtype=program.dtype)

    def one(params: Variables, batch_stats: Variables, image: jax.Array) -> jax.Array:
        return bind(graphdef, params, batch_stats).prefix(image, program.cut)

    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shape = jax.eval_shape(one, *variable_shapes(program.architecture), image)
    return num_images * math.prod(shape.shape) * shape.dtype.itemsize


def cacheable(program: Program) -> bool:
    """Whether features at the cut stay valid during training.

    For test images that is enough; training images must not be augmented, either.
    """
    return not program.moving_prefix and program.cut > BEFORE_STEM


@partial(jax.jit, static_argnums=0)
def _features(program: Program, state: TrainState, frozen: Frozen, images: jax.Array) -> jax.Array:
    network = program.network(state.params, state.batch_stats, frozen)
    return network.prefix(prepare(images, program.image_size), program.cut)


def features(
    program: Program,
    state: TrainState,
    frozen: Frozen,
    images: np.ndarray,
    progress: Progress = lambda done: None,
) -> jax.Array:
    """Features at the cut of stored images (uint8 [N, H, W, C]), on the device.

    [N, height, width, channels] in the program's dtype, or [N, num_features] behind the
    last block. `progress` is told how many images each batch finished.
    """
    size = min(program.settings.eval_batch_size, len(images))
    parts = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        parts.append(_features(program, state, frozen, padded)[: len(batch)])
        progress(len(batch))
    return jnp.concatenate(parts)


@partial(jax.jit, static_argnums=0)
def _batch_statistics(
    program: Program, params: Variables, batch_stats: Variables, images: jax.Array
) -> Variables:
    """What each layer in front of the cut measures on one batch, in train mode."""
    network = bind(definition(program.architecture, dtype=program.dtype), params, batch_stats)
    network.prefix(prepare(images, program.image_size), program.cut, train=True)
    moved = batch_stats_of(network)
    # The running statistics moved by BN_MOMENTUM of the way to the batch's: undo that.
    return jax.tree.map(lambda new, old: old + (new - old) / BN_MOMENTUM, moved, batch_stats)


def adapt(
    program: Program,
    params: Variables,
    batch_stats: Variables,
    images: np.ndarray,
    progress: Progress = lambda done: None,
) -> Variables:
    """Re-estimate the frozen layers' statistics on the training images: mode 'adapt'.

    One pass in train mode over stored images (uint8 [N, H, W, C]), unaugmented, in their
    order; means and unbiased variances are averaged over batches by the images in them.
    Layers behind the cut keep theirs.
    """
    size = program.settings.batch_size
    zero = {path: jnp.zeros_like(leaf) for path, leaf in batch_stats.items()}
    total = zero
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        measured = _batch_statistics(program, params, zero, batch)
        share = len(batch) / len(images)
        total = {path: total[path] + share * measured[path] for path in total}
        progress(len(batch))
    arch, blocks = program.architecture, program.settings.blocks
    return {
        path: leaf if trainable(arch, path, blocks) else total[path]
        for path, leaf in batch_stats.items()
    }
