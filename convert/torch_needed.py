"""torch, for the two things that need it; a conversion does without."""

from types import ModuleType

from rtl_jax.errors import UserError


def import_torch(purpose: str) -> ModuleType:
    """Import torch, or raise a UserError that says how to install it."""
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{purpose} needs PyTorch: pip install 'rtl_jax[convert]'") from error
    return torch
