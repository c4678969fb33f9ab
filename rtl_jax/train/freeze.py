"""The freezing mask: which variables train, given the number of blocks.

It determines the optimizer's mask, the argument of the gradient, the split point and the content
of checkpoints. The last k blocks and the head train; a block includes the scale and bias of its
batch normalisation (paper, section 3.2). `blocks=None` trains everything.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import optax

from rtl_jax.errors import UserError
from rtl_jax.models.architecture import BEFORE_STEM
from rtl_jax.models.registry import Architecture

T = TypeVar("T")


def split_point(architecture: Architecture, blocks: int | None) -> int:
    """Return the split point before the last `blocks` blocks; BEFORE_STEM for None.

    Raises UserError if the network has fewer blocks.
    """
    if blocks is None:
        return BEFORE_STEM
    if not 0 <= blocks <= architecture.num_blocks:
        raise UserError(
            f"transfer.blocks: {architecture.name} has {architecture.num_blocks} blocks, "
            f"received {blocks} (none trains everything)"
        )
    return architecture.num_blocks - blocks


def trainable(architecture: Architecture, path: str, blocks: int | None) -> bool:
    """Return whether the variable at `path` comes after the split point.

    Raises UserError if the path belongs to no part of the network.
    """
    return architecture.block_of(path) >= split_point(architecture, blocks)


def mask(
    architecture: Architecture, variables: Mapping[str, Any], blocks: int | None
) -> dict[str, bool]:
    """Return True for every variable (parameter or statistic) after the split point."""
    return {path: trainable(architecture, path, blocks) for path in variables}


def partition(variables: Mapping[str, T], mask: Mapping[str, bool]) -> tuple[dict, dict[str, T]]:
    """Split variables by a mask into (trainable, frozen).

    The first keeps every path, with optax.MaskedNode() at frozen ones. This is optax's convention:
    a pytree without leaves, so that gradients and optimizer state have none there either.
    """
    selected = {
        path: leaf if mask[path] else optax.MaskedNode() for path, leaf in variables.items()
    }
    return selected, {path: leaf for path, leaf in variables.items() if not mask[path]}


def combine(selected: Mapping[str, Any], frozen: Mapping[str, T]) -> dict[str, T]:
    """Invert `partition`."""
    return {path: frozen.get(path, leaf) for path, leaf in selected.items()}
