"""Estimates of the memory that batches of images need in a network, made before running it.

Estimates are lower bounds: they count the outputs of convolutions and matrix products, and nothing
that a compiler could eliminate. A refused batch would have failed; an accepted one may still run
out of memory.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rtl_jax.errors import UserError
from rtl_jax.models.model import bind, definition, variable_shapes
from rtl_jax.models.registry import Architecture, Variables
from rtl_jax.runtime import resources

# How a batch is used: for logits only, the gradient with respect to pixels, or a training step.
Use = Literal["look", "attack", "train"]


class Batch(NamedTuple):
    """Images that pass through a network at once.

    setting: the name of the setting that determines their number. split: where training begins.
    """

    setting: str
    images: int
    use: Use = "look"
    split: int = -1


def require_memory(
    architecture: Architecture,
    image_size: int,
    *batches: Batch,
    dtype: jnp.dtype = jnp.float32,
    free: int | None = None,
) -> None:
    """Raise UserError, naming the settings to lower, if a batch exceeds the free memory.

    `dtype` is what the network computes in; `free` defaults to the device's free memory.
    """
    there, dtype = resources.device_free() if free is None else free, jnp.dtype(dtype)
    for batch in batches:
        one = image_bytes(architecture, image_size, batch.use, batch.split, dtype)
        needed = batch.images * one
        if needed > there:
            raise UserError(
                f"{batch.setting}: {batch.images:,} images of {image_size} px take at least "
                f"{_gib(needed)} of memory at once in {architecture.name}, and {_gib(there)} are "
                f"free: lower {batch.setting} or target.image_size"
            )


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"


def image_bytes(
    architecture: Architecture, image_size: int, use: Use, split: int, dtype: jnp.dtype
) -> int:
    """Return a lower bound on the bytes per image: the largest layer, or all a backward pass keeps.

    Training keeps the outputs of the layers after the split point; a gradient with respect to the
    pixels keeps the signs of all layers' outputs, at one byte each or more.
    """
    before, behind = _layers(architecture, image_size, split, dtype)
    kept = {"look": 0, "attack": (sum(before) + sum(behind)) // dtype.itemsize}
    pixels = 3 * 4 * image_size**2
    return max(pixels, *before, *behind, kept.get(use, sum(behind)))


@lru_cache(maxsize=256)
def _layers(
    architecture: Architecture, image_size: int, split: int, dtype: jnp.dtype
) -> tuple[list[int], list[int]]:
    """Return the bytes of one image's layer outputs before and after the split point."""
    network = definition(architecture, dtype=dtype, method="xla")

    def front(params: Variables, batch_stats: Variables, images: jax.Array) -> jax.Array:
        return bind(network, params, batch_stats).prefix(images, split)

    def back(params: Variables, batch_stats: Variables, features: jax.Array) -> jax.Array:
        return bind(network, params, batch_stats).suffix(features, split)

    variables = variable_shapes(architecture)
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    before = jax.make_jaxpr(front)(*variables, images)
    (features,) = (jax.ShapeDtypeStruct(one.shape, one.dtype) for one in before.out_avals)
    behind = jax.make_jaxpr(back)(*variables, features)
    return [*_outputs(before.jaxpr)], [*_outputs(behind.jaxpr)]


def _outputs(jaxpr: Any) -> Iterator[int]:
    """Yield the output bytes of convolutions and matrix products, also in nested functions."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            shapes = [one.aval for one in equation.outvars]
            yield from (math.prod(one.shape) * one.dtype.itemsize for one in shapes)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                if inner := getattr(inner, "jaxpr", inner if hasattr(inner, "eqns") else None):
                    yield from _outputs(inner)
