"""A new head for the target's classes."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.models.network import Network
from rtl_jax.models.registry import Architecture


def new_head(source: Network, architecture: Architecture, kind: str, seed: int) -> Network:
    """Return the source with a new random head for `architecture`'s classes; blocks are unchanged.

    'normal' is the authors' choice: weights N(0, 1) and bias 0, so that the first losses are large.
    'uniform' is torch's default: weights and bias uniform within +-1 / sqrt(features).
    """
    drawn = _draw(kind, architecture.num_features, architecture.num_classes, jax.random.key(seed))
    new = dict(zip(architecture.head, map(np.asarray, drawn), strict=True))
    return source.replace(architecture=architecture, params={**source.params, **new})


@partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(
    kind: str, features: int, classes: int, seed_key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw a kernel [features, classes] and a bias [classes]."""
    # The key of the training folds in 1; see `FineTuning.key`.
    key = jax.random.fold_in(seed_key, 0)
    if kind == "normal":
        return jax.random.normal(key, (features, classes)), jnp.zeros(classes)
    bound = 1 / math.sqrt(features)
    kernel_key, bias_key = jax.random.split(key)
    kernel = jax.random.uniform(kernel_key, (features, classes), minval=-bound, maxval=bound)
    return kernel, jax.random.uniform(bias_key, (classes,), minval=-bound, maxval=bound)
