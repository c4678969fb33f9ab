"""Check of the memory for a Hessian before it is allocated."""

from rtl_jax.errors import UserError
from rtl_jax.runtime.resources import host_free


def require_memory(num_parameters: int, needed: int, limit_gib: int | None = None) -> None:
    """Raise UserError, suggesting the solver without a Hessian, if `needed` bytes exceed the limit.

    The limit is `influence.memory_gib` or, if None, the machine's free memory.
    """
    limit = host_free() if limit_gib is None else limit_gib * 2**30
    if needed > limit:
        raise UserError(
            f"the Hessian of {num_parameters:,} parameters and its solver need "
            f"{needed / 2**30:.1f} GiB, but the limit is {limit / 2**30:.1f} GiB: set "
            "influence.solver=conjugate_gradient, which never forms it, or raise "
            "influence.memory_gib"
        )
