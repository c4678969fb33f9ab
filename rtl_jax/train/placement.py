"""Where the arrays of a training lie, where there are several devices."""

import dataclasses
from typing import Any, ClassVar, Protocol

from jax.sharding import Mesh

from rtl_jax.runtime import devices


class Placement(Protocol):
    """Puts arrays where the steps of a training want them."""

    @property
    def divides_batches(self) -> bool: ...

    def state(self, tree: Any, axes: Any = 0) -> Any:
        """What has an axis of seeds, or has none where `axes`, a prefix of the tree, has None."""

    def whole(self, tree: Any) -> Any:
        """What every device reads: images that lie on the device."""

    def batch(self, tree: Any, axis: int) -> Any:
        """Batches of every seed, [S, ...], with the batch at `axis`."""


@dataclasses.dataclass(frozen=True)
class SeedsApart:
    """The seeds are divided over this host's devices."""

    seeds: int
    divides_batches: ClassVar[bool] = False

    def state(self, tree: Any, axes: Any = 0) -> Any:
        """As `Placement.state`."""
        return devices.seeds_apart(tree, self.seeds, axes)

    def whole(self, tree: Any) -> Any:
        """As `Placement.whole`."""
        return devices.seeds_apart(tree, self.seeds, None)

    def batch(self, tree: Any, axis: int) -> Any:
        """As `Placement.batch`."""
        return devices.seeds_apart(tree, self.seeds)


@dataclasses.dataclass(frozen=True)
class BatchDivided:
    """One seed, whose batches are divided over all devices of all hosts."""

    mesh: Mesh
    divides_batches: ClassVar[bool] = True

    def state(self, tree: Any, axes: Any = 0) -> Any:
        """As `Placement.state`."""
        return devices.replicate(self.mesh, tree)

    def whole(self, tree: Any) -> Any:
        """As `Placement.whole`."""
        return devices.replicate(self.mesh, tree)

    def batch(self, tree: Any, axis: int) -> Any:
        """As `Placement.batch`."""
        return devices.divide(self.mesh, tree, axis)
