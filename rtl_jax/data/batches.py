"""Batches of datasets that are too large to hold decoded: order, crops and position.

Every epoch has its own order of images, determined by the seed and the epoch, and drops a last
partial batch. Hosts divide each batch; their concatenated shares are the same batch for any number
of hosts, threads and processes. An image's crop depends only on the seed, the epoch and the image's
index.

grain, which reads ahead in threads and processes, is imported where it is used, since only these
datasets need it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rtl_jax.data import pictures
from rtl_jax.data.crop import DRAWS, crop_box
from rtl_jax.data.records import Records
from rtl_jax.errors import UserError


class Batch(NamedTuple):
    """A batch, or a host's share of it in the order of the batch, on the host or on a device.

    `images` are as stored, uint8 [N, H, W, C]; `labels` are int32 [N]; `indices`, int32 [N], are
    indices into the training split. They determine an image's random numbers in an epoch,
    independently of the batch and the device.
    """

    images: Any
    labels: Any
    indices: Any


class Shuffle:
    """The order in which a host reads images, counted over all epochs from 0."""

    def __init__(self, num_images: int, batch_size: int, seed: int, host: int, hosts: int):
        self.batch_size, self.share = batch_size, batch_size // hosts
        self.facts = {"images": num_images, "batch_size": batch_size, "seed": seed}
        self._first = host * self.share
        self._used = num_images - num_images % batch_size
        self._num_images, self._seed = num_images, seed

    def __call__(self, row: int) -> tuple[int, int]:
        """Return the epoch and index of the host's `row`-th image."""
        from grain.experimental import index_shuffle

        batch, place = divmod(row, self.share)
        epoch, rank = divmod(batch * self.batch_size + self._first + place, self._used)
        # As in grain's own `shuffle`, except that it adds the epoch to the seed, so that
        # neighbouring seeds would have the same orders, shifted by an epoch.
        last, seed = self._num_images - 1, _epoch_seed(self._seed, epoch)
        return epoch, int(index_shuffle(rank, max_index=last, seed=seed, rounds=4))


@functools.lru_cache(maxsize=4)
def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


class Decode:
    """Reads and decodes an image in an epoch; grain calls it in its threads."""

    def __init__(self, records: Records, image_size: int, seed: int, resized_crop: float):
        self._records, self._image_size = records, image_size
        self._seed, self._smallest = seed, resized_crop

    def __call__(self, epoch: int, index: int) -> Batch:
        """Decode one image, [size, size, 3]. Raises UserError, naming it, if it is damaged."""
        source, label = self._records.read(index)
        try:
            if self._smallest:
                choose = self._choose(epoch, index)
                image = pictures.decode_crop(source, self._image_size, choose)
            else:
                image = pictures.decode(source, self._image_size)
        except pictures.BROKEN as error:
            raise UserError(
                f"{self._records.place(index)} cannot be decoded ({pictures.reason(error)}): "
                "remove or replace it"
            ) from error
        return Batch(image, np.asarray(label, np.int32), np.asarray(index, np.int32))

    def _choose(self, epoch: int, index: int) -> Callable[[int, int], tuple[int, int, int, int]]:
        draws = np.random.default_rng((self._seed, epoch, index)).random(DRAWS)

        def choose(height: int, width: int) -> tuple[int, int, int, int]:
            top, left, h, w = crop_box(draws, height, width, self._smallest)
            return int(top), int(left), int(h), int(w)

        return choose


class Batches:
    """An endless iterator of `Batch` that can save and restore its position."""

    def __init__(self, decode: Decode, shuffle: Shuffle, threads: int, workers: int):
        self._decode, self._shuffle = decode, shuffle
        self._threads, self._workers = threads, workers
        self._taken = 0
        self._iterator: Any = None

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = iter(self._pipeline(self._taken))
        batch = next(self._iterator)
        self._taken += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the number of batches taken and what identifies them, JSON-serialisable.

        The state is the same on all hosts and does not depend on the number of hosts, threads and
        processes, so a training may resume with others.
        """
        return {"taken": self._taken, **self._shuffle.facts}

    def set_state(self, state: dict[str, int]) -> None:
        """Restore a state of `get_state`. Raises UserError if it belongs to other images."""
        facts = {name: value for name, value in state.items() if name != "taken"}
        if facts != self._shuffle.facts:
            raise UserError(
                f"cannot resume: the saved position is in {facts}, and these batches are of "
                f"{self._shuffle.facts}: use the same data, batch size and seed"
            )
        self.close()
        self._taken = state["taken"]

    def close(self) -> None:
        """Stop the threads and processes; the next batch starts new ones."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _pipeline(self, start: int) -> Any:
        """Make grain's dataset of all batches from number `start` on.

        The position is not grain's own, whose states are valid only for one number of worker
        processes and cannot be exchanged between hosts.
        """
        import grain

        first, share = start * self._shuffle.share, self._shuffle.share
        rows = grain.MapDataset.range(share).repeat()
        images = rows.map_with_index(functools.partial(_load, self._decode, self._shuffle, first))
        if not self._workers:
            buffered = max(2 * share, self._threads)
            options = grain.ReadOptions(self._threads, buffered)
            return images.to_iter_dataset(options).batch(share)
        # Batch before distributing to processes, which each make whole batches in turn, so that
        # batches do not depend on their number.
        _mark_flags_as_parsed()
        options = grain.ReadOptions(self._threads, self._threads)
        processes = grain.MultiprocessingOptions(self._workers)
        return images.batch(share).to_iter_dataset(options).mp_prefetch(processes)


def _mark_flags_as_parsed() -> None:
    """Let grain 0.2.18 read its own flag outside absl programs (grain issue 1355)."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _load(decode: Decode, shuffle: Shuffle, first: int, row: int, _: int) -> Batch:
    return decode(*shuffle(first + row))
