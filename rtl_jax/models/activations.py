"""Activations by their names."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from rtl_jax.models.gelu import gelu

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nnx.relu,
    "silu": nnx.silu,
    "gelu": gelu,
    # By comparison: `minimum` and `maximum` halve the gradient on a bound, where torch's has none.
    "relu6": lambda x: jnp.where(x > 0, jnp.where(x < 6, x, 6), 0),
    "none": lambda x: x,
}
