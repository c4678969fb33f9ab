"""The networks of this package as a `logits_fn`."""

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


def _logits(
    graphdef: nnx.GraphDef, params: Mapping, batch_stats: Mapping, images: jax.Array
) -> jax.Array:
    return bind(graphdef, params, batch_stats)(images)
