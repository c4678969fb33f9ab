"""Prevention of XLA fusions that are slow on a CPU, by materialising values in memory."""

from typing import TypeVar

from jax import lax

Values = TypeVar("Values")


def in_memory_on_cpu(values: Values) -> Values:
    """Return a pytree of arrays, which on a CPU are computed once and kept in memory.

    On a CPU, a fused loop recomputes cheap values for each use, and XLA passes sums and products to
    a library together with the operations before them, which run more slowly there. Elsewhere, this
    does nothing. Supports all modes of differentiation.
    """
    return lax.platform_dependent(  # type: ignore[no-any-return]
        values, cpu=lax.optimization_barrier, default=lambda values: values
    )
