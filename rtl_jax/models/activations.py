"""Activations by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.models.gelu import gelu

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nnx.relu,
    "silu": nnx.silu,
    "gelu": gelu,
    # With comparisons: `minimum` and `maximum` halve the gradient at a bound, where torch's is 0.
    # As there, NaN is below and above nothing, and so stays.
    "relu6": lambda x: jnp.where(x <= 0, 0, jnp.where(x >= 6, 6, x)),
    "none": lambda x: x,
}
