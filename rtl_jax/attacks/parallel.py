"""Several searches on the same images in one program: in parallel or one after the other."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from rtl_jax.runtime import devices

# On two CPU cores ResNets process an image no faster in batches larger than about this.
CPU_BATCH = 16


def map_attacks(
    function: Callable[[Any], Any], values: jax.Array, batch_size: int, num_parallel: int | None
) -> Any:
    """Apply `function` to each of `values` [M] and stack the results.

    `num_parallel` of them run in parallel under `vmap`, at as many times the memory. By default
    all of them do on an accelerator; on a CPU, where larger batches only miss the caches, as many
    as make up about `CPU_BATCH` images, with `batch_size` images in each.
    """
    if num_parallel is None:
        on_cpu = devices.platform() == "cpu"
        num_parallel = max(1, CPU_BATCH // batch_size) if on_cpu else len(values)
    if num_parallel >= len(values):
        return jax.vmap(function)(values)
    return lax.map(function, values, batch_size=num_parallel if num_parallel > 1 else None)
