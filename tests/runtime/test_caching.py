"""Results are cached separately by precision."""

import jax
import jax.numpy as jnp

from rtl_jax.runtime.caching import cached


def test_results_with_64_bits_are_kept_apart() -> None:
    calls = []

    @cached
    def zeros(number: int) -> jax.Array:
        calls.append(number)
        return jnp.zeros(number)

    for _ in range(2):
        assert zeros(3).dtype == jnp.float32
        with jax.enable_x64(True):
            assert zeros(3).dtype == jnp.float64
    assert calls == [3, 3]
