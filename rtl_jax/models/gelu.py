"""The exact GELU, torch's default."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from rtl_jax.models.in_memory import in_memory_on_cpu


@jax.custom_jvp
def gelu(inputs: jax.Array) -> jax.Array:
    """Multiply each value by the normal CDF at it; differentiable to any order.

    Uses `erf` as in torch, rather than Flax's `erfc`, which costs twice as much. The derivative
    recomputes it from the inputs, so that no other array of their size is stored.
    """
    return inputs * _share_below(inputs)


def _share_below(inputs: jax.Array) -> jax.Array:
    return 0.5 * (1 + lax.erf(inputs * math.sqrt(0.5)))


@gelu.defjvp
def _derivative(
    inputs: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (values,), (direction,) = inputs, tangents
    again = in_memory_on_cpu(values)
    density = jnp.exp(-0.5 * jnp.square(again)) * (1 / math.sqrt(2 * math.pi))
    return gelu(values), (_share_below(again) + again * density) * direction
