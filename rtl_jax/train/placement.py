"""Placement of the arrays of a training on several devices."""

import dataclasses
from typing import Any, ClassVar, Protocol

from jax.sharding import Mesh

from rtl_jax.runtime import devices


class Placement(Protocol):
    """Puts arrays on the devices that need them."""

    @property
    def divides_batches(self) -> bool: ...

    def state(self, tree: Any, axes: Any = 0) -> Any:
        """Place a tree with a seed axis, except where `axes`, a prefix of the tree, is None."""

    def whole(self, tree: Any) -> Any:
        """Place arrays that every device reads, such as cached images."""

    def batch(self, tree: Any, axis: int) -> Any:
        """Place the batches of every seed, [S, ...], with the batch dimension at `axis`."""


@dataclasses.dataclass(frozen=True)
class SeedsApart:
    """Divides the seeds over this host's devices."""

    seeds: int
    divides_batches: ClassVar[bool] = False

    def state(self, tree: Any, axes: Any = 0) -> Any:
        """See `Placement.state`."""
        return devices.seeds_apart(tree, self.seeds, axes)

    def whole(self, tree: Any) -> Any:
        """See `Placement.whole`."""
        return devices.seeds_apart(tree, self.seeds, None)

    def batch(self, tree: Any, axis: int) -> Any:
        """See `Placement.batch`."""
        return devices.seeds_apart(tree, self.seeds)


@dataclasses.dataclass(frozen=True)
class BatchDivided:
    """Divides the batches of a single seed over all devices of all hosts."""

    mesh: Mesh
    divides_batches: ClassVar[bool] = True

    def state(self, tree: Any, axes: Any = 0) -> Any:
        """See `Placement.state`."""
        return devices.replicate(self.mesh, tree)

    def whole(self, tree: Any) -> Any:
        """See `Placement.whole`."""
        return devices.replicate(self.mesh, tree)

    def batch(self, tree: Any, axis: int) -> Any:
        """See `Placement.batch`."""
        return devices.divide(self.mesh, tree, axis)
