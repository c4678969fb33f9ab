"""JAX's switches that affect results, fixed at the values used for published numbers."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Compute with JAX's default 32 bits, random numbers and promotion, overriding the user's.

    Otherwise JAX_ENABLE_X64=1, JAX_DEFAULT_PRNG_IMPL=rbg, JAX_THREEFRY_PARTITIONABLE=false or
    JAX_RANDOM_SEED_OFFSET in the shell would change the results of the same settings. Code that
    needs float64 (influence) enables it inside.
    """
    offset = getattr(jax.config, "jax_random_seed_offset", 0)
    with (
        jax.enable_x64(False),
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        if offset:  # the only switch without a context manager
            jax.config.update("jax_random_seed_offset", 0)
        try:
            yield
        finally:
            if offset:
                jax.config.update("jax_random_seed_offset", offset)
