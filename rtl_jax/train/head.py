"""A new head for the target's classes."""

import math

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
    # The key of the training folds in 1; see `FineTuning.key`.
    key = jax.random.fold_in(jax.random.key(seed), 0)
    features, classes = architecture.num_features, architecture.num_classes
    if kind == "normal":
        kernel = jax.random.normal(key, (features, classes))
        bias = jnp.zeros(classes)
    else:
        bound = 1 / math.sqrt(features)
        kernel_key, bias_key = jax.random.split(key)
        kernel = jax.random.uniform(kernel_key, (features, classes), minval=-bound, maxval=bound)
        bias = jax.random.uniform(bias_key, (classes,), minval=-bound, maxval=bound)
    new = dict(zip(architecture.head, (np.asarray(kernel), np.asarray(bias)), strict=True))
    return source.replace(architecture=architecture, params={**source.params, **new})
