"""Run several searches on the same images in one program, in parallel or sequentially."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from rtl_jax.runtime import devices

# On two CPU cores, ResNets are no faster per image in batches larger than about this.
CPU_BATCH = 16


def map_attacks(
    function: Callable[[Any], Any], values: jax.Array, batch_size: int, num_parallel: int | None
) -> Any:
    """Apply `function` to each of `values` [M] and stack the results.

    `num_parallel` of them run in parallel under `vmap`, with memory in proportion. The default is
    all of them on an accelerator. On a CPU, where larger batches only miss the caches, it is as
    many as make up about `CPU_BATCH` images, at `batch_size` images each.
    """
    if num_parallel is None:
        on_cpu = devices.platform() == "cpu"
        num_parallel = max(1, CPU_BATCH // batch_size) if on_cpu else len(values)
    if num_parallel >= len(values):
        return jax.vmap(function)(values)
    return lax.map(function, values, batch_size=num_parallel if num_parallel > 1 else None)
