"""Values that XLA is to have in memory on a CPU, where what it would fuse them into costs more."""

from typing import TypeVar

from jax import lax

Values = TypeVar("Values")


def in_memory_on_cpu(values: Values) -> Values:
    """Return the arrays of a pytree; on a CPU computed once, in memory, elsewhere as XLA will.

    On a CPU a fused loop computes cheap values anew for each of its uses, and XLA hands sums and
    products to a library together with all that leads to them, which there runs more slowly. Can be
    differentiated in every mode.
    """
    return lax.platform_dependent(  # type: ignore[no-any-return]
        values, cpu=lax.optimization_barrier, default=lambda values: values
    )
