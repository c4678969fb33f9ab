"""The networks of this package as a `logits_fn`, and their features as one."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.models.architecture import Architecture
from rtl_jax.models.layers import ConvMethod
from rtl_jax.models.resnet import bind, definition


def network_logits(
    architecture: Architecture,
    params: Mapping,
    batch_stats: Mapping,
    *,
    dtype: jnp.dtype = jnp.float32,
    method: ConvMethod | None = None,
) -> jax.tree_util.Partial:
    """A network in evaluation mode, for `attack`; its variables are arguments of the program.

    Variables with a leading axis (many seeds) go through `jax.vmap` over the result; then
    `method='dot'` is the convolution to choose, see `models.layers`.
    """
    graphdef = definition(architecture, dtype=dtype, method=method)
    return jax.tree_util.Partial(_logits, graphdef, dict(params), dict(batch_stats))


def network_features(
    architecture: Architecture, params: Mapping, batch_stats: Mapping
) -> jax.tree_util.Partial:
    """What the network's head sees, [N, num_features], for `attack`: features in logits' place."""
    graphdef = definition(architecture)
    return jax.tree_util.Partial(_features, graphdef, dict(params), dict(batch_stats))


def _logits(
    graphdef: nnx.GraphDef, params: Mapping, batch_stats: Mapping, images: jax.Array
) -> jax.Array:
    return bind(graphdef, params, batch_stats)(images)


def _features(
    graphdef: nnx.GraphDef, params: Mapping, batch_stats: Mapping, images: jax.Array
) -> jax.Array:
    network = bind(graphdef, params, batch_stats)
    return network.prefix(images, network.architecture.num_blocks)
