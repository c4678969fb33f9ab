"""JAX's switches that change numbers, held at the values that published numbers were made with."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Compute with JAX's usual 32 bits, random numbers and promotion, whatever the user has set.

    A shell's JAX_ENABLE_X64=1, JAX_DEFAULT_PRNG_IMPL=rbg, JAX_THREEFRY_PARTITIONABLE=false or
    JAX_RANDOM_SEED_OFFSET would otherwise give other numbers to the same settings. What computes in
    float64 (influence) says so inside.
    """
    offset = getattr(jax.config, "jax_random_seed_offset", 0)
    with (
        jax.enable_x64(False),
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        if offset:  # the one that has no context of its own
            jax.config.update("jax_random_seed_offset", 0)
        try:
            yield
        finally:
            if offset:
                jax.config.update("jax_random_seed_offset", offset)
