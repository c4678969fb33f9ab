"""Imports of torch and packages that build on it, which a conversion itself does not need."""

import importlib
from functools import cache
from types import ModuleType
from typing import Any

from rtl_jax.errors import UserError

_KEPT: list[Any] = []  # torch forgets the operators of a library object that is deleted


def import_torch(purpose: str) -> ModuleType:
    """Import torch, or raise a UserError that says how to install it."""
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{purpose} needs PyTorch: pip install 'rtl-jax[convert]'") from error
    return torch


def import_package(name: str, purpose: str) -> Any:
    """Import timm or torchvision, or a module of theirs, for their networks only.

    Raises UserError if it is missing or cannot be imported.
    """
    import_torch(purpose)
    package = name.partition(".")[0]
    try:
        return _imported(name)
    except ModuleNotFoundError as error:
        if error.name not in (package, "torchvision"):
            raise UserError(f"{purpose}: {package} cannot be imported: {error}") from error
        raise UserError(
            f"{purpose}: this network is {package}'s, and {error.name} is not installed: "
            "pip install --no-deps timm torchvision (--no-deps keeps your torch)"
        ) from error
    except Exception as error:  # a package built for another torch can fail in many ways
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{purpose}: this network is {package}'s, which cannot be imported "
            f"({type(error).__name__}: {reason}): install versions that fit your torch"
        ) from error


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare_operators()
        return importlib.import_module(name)


@cache
def _declare_operators() -> None:
    """Declare the operators that torchvision registers on import, which its networks do not need.

    This is for a torchvision whose compiled library was built for another torch.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)
