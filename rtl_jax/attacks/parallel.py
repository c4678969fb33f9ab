"""Many attacks on the same images in one program: side by side or one after the other."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

# On two CPU cores ResNets were as fast an image, or faster, in batches of about so many.
CPU_BATCH = 16


def map_attacks(
    function: Callable[[Any], Any], values: jax.Array, examples: int, together: int | None
) -> Any:
    """`function` of each of `values` [M], the results stacked.

    `together` of them run side by side, at so many times the memory. By default all do on an
    accelerator; on a CPU, where larger batches only miss the caches, so many as make up about
    `CPU_BATCH` images with `examples` in each.
    """
    if together is None:
        on_cpu = jax.default_backend() == "cpu"
        together = max(1, CPU_BATCH // examples) if on_cpu else len(values)
    if together >= len(values):
        return jax.vmap(function)(values)
    return lax.map(function, values, batch_size=together if together > 1 else None)
