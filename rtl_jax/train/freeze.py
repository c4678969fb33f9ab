"""The one freezing mask: which variables train, by the number of blocks.

It drives the optimizer's mask, the gradient's argument, the split point and what is
checkpointed. The last k blocks train, beside the head; a block includes its batch
normalisation's scale and bias (paper, section 3.2). `blocks` None trains everything.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import optax

from rtl_jax.errors import UserError
from rtl_jax.models.architecture import BEFORE_STEM
from rtl_jax.models.registry import Architecture

T = TypeVar("T")


def split_point(architecture: Architecture, blocks: int | None) -> int:
    """The split point before the last `blocks` blocks; BEFORE_STEM for None.

    Raises UserError where the network has fewer blocks.
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
    """Whether the variable at `path` lies behind the split point.

    Raises UserError for a path that belongs to no part of the network.
    """
    return architecture.block_of(path) >= split_point(architecture, blocks)


def mask(
    architecture: Architecture, variables: Mapping[str, Any], blocks: int | None
) -> dict[str, bool]:
    """True for every variable (parameter or statistic) that lies behind the split point."""
    return {path: trainable(architecture, path, blocks) for path in variables}


def partition(variables: Mapping[str, T], mask: Mapping[str, bool]) -> tuple[dict, dict[str, T]]:
    """Split by a mask: (what trains, what is frozen).

    The first keeps every path, with optax.MaskedNode() where frozen: optax's own convention,
    a pytree without leaves there, so that gradients and optimizer state have none either.
    """
    selected = {
        path: leaf if mask[path] else optax.MaskedNode() for path, leaf in variables.items()
    }
    return selected, {path: leaf for path, leaf in variables.items() if not mask[path]}


def combine(selected: Mapping[str, Any], frozen: Mapping[str, T]) -> dict[str, T]:
    """The inverse of `partition`."""
    return {path: frozen.get(path, leaf) for path, leaf in selected.items()}
