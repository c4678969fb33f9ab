"""Training images in batches: from the device where they fit, else streamed from their files.

Both give the same full batches whatever the number of devices and hosts, and can begin at any
step. An epoch is a new order of all images; what is left over for a partial batch is left out.
"""

from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from rtl_jax.data import ImageSet
from rtl_jax.data.batches import Batch, Batches
from rtl_jax.errors import UserError
from rtl_jax.lab.pretrain.program import SourceProgram, SourceState, run_step, run_step_on
from rtl_jax.runtime import devices
from rtl_jax.train.step import Metrics


class Feed(Protocol):
    """Where batches come from."""

    def advance(
        self, program: SourceProgram, state: SourceState, step: int, key: jax.Array
    ) -> tuple[SourceState, Metrics]:
        """Train on the batch of a step, counted from 0; steps are asked for one after another."""

    def position(self) -> dict[str, Any]:
        """What `seek` needs beside the step; JSON-able."""

    def seek(self, position: dict[str, Any]) -> None:
        """Go on where `position` was asked for."""

    def close(self) -> None:
        """End what reads ahead."""


class InMemory:
    """A decoded set, whole on every device; a batch is a list of rows."""

    def __init__(self, images: ImageSet, batch_size: int, mesh: Mesh, key: jax.Array):
        everything = Batch(images.images, images.labels, np.arange(len(images), dtype=np.int32))
        self._data = devices.replicate(mesh, everything)
        self._mesh, self._key, self._batch_size = mesh, key, batch_size
        self._total = len(images)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int32))

    def advance(
        self, program: SourceProgram, state: SourceState, step: int, key: jax.Array
    ) -> tuple[SourceState, Metrics]:
        """As `Feed.advance`."""
        epoch, number = divmod(step, program.steps_per_epoch)
        if self._order[0] != epoch:
            drawn = jax.random.permutation(jax.random.fold_in(self._key, epoch), self._total)
            self._order = epoch, np.asarray(drawn, np.int32)
        rows = self._order[1][number * self._batch_size : (number + 1) * self._batch_size]
        return run_step_on(program, state, self._data, devices.divide(self._mesh, rows), key)

    def position(self) -> dict[str, Any]:
        """Nothing: the step says all."""
        return {}

    def seek(self, position: dict[str, Any]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class Streamed:
    """Batches that are decoded while the devices work; each host reads its own share."""

    def __init__(self, batches: Batches, mesh: Mesh):
        self._batches, self._mesh = batches, mesh

    def advance(
        self, program: SourceProgram, state: SourceState, step: int, key: jax.Array
    ) -> tuple[SourceState, Metrics]:
        """As `Feed.advance`."""
        batch = devices.assemble(self._mesh, next(self._batches))
        return run_step(program, state, batch, key)

    def position(self) -> dict[str, Any]:
        """The iterator's own."""
        return self._batches.get_state()

    def seek(self, position: dict[str, Any]) -> None:
        """Set the iterator back."""
        self._batches.set_state(position)

    def close(self) -> None:
        """End the threads that decode."""
        self._batches.close()


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Full batches in an epoch.

    Raises UserError where there is none, or where devices cannot share one evenly.
    """
    if num_images < batch_size:
        raise UserError(
            f"pretraining.batch_size: expected at most the {num_images} training images there "
            f"are, received {batch_size}"
        )
    if batch_size % jax.device_count():
        raise UserError(
            f"pretraining.batch_size: expected a multiple of the {jax.device_count()} devices, "
            f"received {batch_size}"
        )
    return num_images // batch_size
