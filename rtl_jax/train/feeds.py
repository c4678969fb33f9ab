"""Sources of training batches: images in memory, or a stream of files.

Images on the device are gathered there, many steps per compiled program. Images in host memory, on
disk or in a stream are sent to the device batch by batch, each while the device computes.
"""

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data.batches import Batch, Batches
from rtl_jax.models.model import Weights
from rtl_jax.runtime import devices
from rtl_jax.train.feature_cache import FeatureCache
from rtl_jax.train.metrics import Metrics
from rtl_jax.train.placement import BatchDivided, Placement
from rtl_jax.train.side_by_side import Images, Position, Rows, train_batch, train_part, train_steps
from rtl_jax.train.step import Hyper, Keys, Step, TrainState

# At most this many steps per program: stop signals and the progress bar wait for its end.
_MOST_STEPS = 256
# The most epochs whose orders are drawn at once, and the most rows in them.
_MOST_EPOCHS = 64
_MOST_ROWS = 2**20


class Feed(Protocol):
    """A source of batches for consecutive steps, counted from 0."""

    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def images_per_epoch(self) -> int: ...

    def advance(
        self,
        step: Step,
        state: TrainState,
        sums: Metrics,
        frozen: Weights,
        done: int,
        *,
        hyper: Hyper,
    ) -> tuple[TrainState, Metrics, int]:
        """Take one or more of the steps after `done` within an epoch; also return their number.

        The buffers of `state` and `sums` are donated.
        """

    def position(self) -> dict[str, Any]:
        """Return what `seek` needs besides the step, JSON-serialisable."""

    def seek(self, position: dict[str, Any]) -> None:
        """Continue from a result of `position`."""

    def close(self) -> None:
        """Stop reading ahead."""


def steps_together(left: int) -> int:
    """Return how many of the `left` full batches to take in one program, 1 or more.

    On a CPU, one: convolutions in a loop are no faster, or much slower. Elsewhere a power of four,
    so that sets of all sizes need few programs, which are slow to compile.
    """
    if left < 1 or devices.platform() == "cpu":
        return 1
    return min(4 ** ((left.bit_length() - 1) // 2), _MOST_STEPS)


class InMemory:
    """Batches from a cache, in an order drawn from each seed's key and the epoch.

    Args:
      cache: the images or features.
      rows: int [S, N], each seed's training images in the cache.
      keys: one of each kind for every seed, [S].
      batch_size: images per step.
      placement: the placement of arrays on devices.
      partial_batch: whether to keep the last, partial batch of an epoch, as a step of its own shape
        with its own batch statistics.
      first_epoch: the number of the first epoch, from which random keys are derived.
    """

    def __init__(
        self,
        cache: FeatureCache,
        rows: np.ndarray,
        keys: Keys,
        batch_size: int,
        placement: Placement,
        *,
        partial_batch: bool = True,
        first_epoch: int = 1,
    ):
        self._cache, self.rows, self._keys = cache, rows, keys
        self._placement, self._first_epoch = placement, first_epoch
        self._size = batch_size
        self._full, rest = divmod(rows.shape[1], batch_size)
        self.steps_per_epoch = self._full + bool(rest and partial_batch)
        whole = self._full * batch_size
        self.images_per_epoch = rows.shape[1] if partial_batch else whole
        # Draw the orders of several epochs at once, since each draw waits for the device.
        self._ahead = max(1, min(_MOST_EPOCHS, _MOST_ROWS // max(rows.size, 1)))
        self._begin, self._orders = -self._ahead, Rows(None, None)
        self._numbers: tuple[Hyper, Hyper] | None = None
        self._images: Images | None = None
        if isinstance(cache.data, jax.Array):
            labels = jax.device_put(cache.labels)
            self._images = placement.whole(Images(cache.data, labels, cache.shape))

    def advance(
        self,
        step: Step,
        state: TrainState,
        sums: Metrics,
        frozen: Weights,
        done: int,
        *,
        hyper: Hyper,
    ) -> tuple[TrainState, Metrics, int]:
        """See `Feed.advance`."""
        epoch, first = divmod(done, self.steps_per_epoch)
        epoch += self._first_epoch
        number, image = self._together(step, self._full - first), first * self._size
        # The last batch of an epoch may be partial.
        size = min(self._size, self.rows.shape[1] - image)
        drawn = self._drawn_for(epoch, on_device=self._images is not None and self._is_short(step))
        arguments = (state, sums, frozen)
        if self._images is None:
            places, indices = (part[drawn, :, image : image + size] for part in self._orders)
            labels = self._cache.labels[places % len(self._cache.labels)]
            batch = self._placement.batch(Batch(self._cache.take(places), labels, indices), 1)
            now = hyper._replace(learning_rate=hyper.learning_rate[:, done])
            known = np.asarray(epoch, np.int32)
            state, sums = train_batch(step, *arguments, batch, self._keys, epoch=known, hyper=now)
        elif not self._is_short(step):
            part = np.s_[drawn, :, image : image + number * size]
            rows = Rows(*(each[part].reshape(-1, number, size) for each in self._orders))
            now = hyper._replace(learning_rate=hyper.learning_rate[:, done : done + number])
            state, sums = train_steps(
                step,
                self._cache.dtype,
                *arguments,
                self._images,
                rows=self._placement.batch(rows, 2),
                keys=self._keys,
                epoch=np.asarray(epoch, np.int32),
                hyper=now,
            )
        else:
            state, sums = train_part(
                step,
                self._cache.dtype,
                (number, size),
                *arguments,
                images=self._images,
                drawn=self._orders,
                position=np.array(Position(drawn, epoch, image, done), np.int32),
                keys=self._keys,
                hyper=self._on_device(hyper),
            )
        return state, sums, number

    def _is_short(self, step: Step) -> bool:
        """Whether a step trains only the head, so that dispatch takes as long as computation.

        Orders and rates then stay on the device. Other programs do not take them as arguments,
        because their shapes depend on the number of images, and sets of all sizes share programs.
        """
        head_alone = step.network.blocks == 0 and step.network.features
        return head_alone and not self._placement.divides_batches

    def _on_device(self, hyper: Hyper) -> Hyper:
        """Put the hyperparameters, which are the same in every call, on the device once."""
        if self._numbers is None or self._numbers[0] is not hyper:
            self._numbers = hyper, self._placement.state(jax.device_put(hyper))
        return self._numbers[1]

    def _together(self, step: Step, left: int) -> int:
        """Return how many of the `left` full batches to take in one program."""
        if left < 1 or self._images is None:
            return 1
        return min(left, _MOST_STEPS) if self._is_short(step) else steps_together(left)

    def _drawn_for(self, epoch: int, *, on_device: bool) -> int:
        """Return the index of an epoch in `_orders`; draw it and the next epochs if missing."""
        if not self._begin <= epoch < self._begin + self._ahead:
            self._begin = epoch
            epochs = np.arange(epoch, epoch + self._ahead)
            sizes = self.rows.shape[1], self._cache.views, len(self._cache.labels)
            drawn = _draw(self._keys, self.rows, epochs, sizes)
            self._orders = drawn if on_device else Rows(*map(np.asarray, drawn))
        return epoch - self._begin

    def position(self) -> dict[str, Any]:
        """Return nothing: the step determines the position."""
        return {}

    def seek(self, position: dict[str, Any]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


@partial(jax.jit, static_argnums=3)
def _draw(keys: Keys, rows: jax.Array, epochs: jax.Array, sizes: tuple[int, int, int]) -> Rows:
    """Draw the order of images for every epoch and seed, and their places, int32 [E, S, total].

    `rows` are [S, total]; `sizes` are the number of images per seed, of views per image, and of
    images in the whole cache.
    """
    total, views, whole = sizes

    def one(epoch: jax.Array, keys: Keys, rows: jax.Array) -> Rows:
        order = jax.random.permutation(jax.random.fold_in(keys.order, epoch), total)
        places = rows[order]
        if views > 1:
            key = jax.random.fold_in(keys.augment, epoch)
            places += jax.random.randint(key, (total,), 0, views) * whole
        return Rows(places.astype(jnp.int32), order.astype(jnp.int32))

    # A loop, since a vmap over epochs is no faster and takes longer to compile.
    return jax.lax.map(lambda epoch: jax.vmap(partial(one, epoch))(keys, rows), epochs)


class Streamed:
    """Batches of one seed, decoded while the devices compute; each host reads its own share."""

    def __init__(
        self,
        batches: Batches,
        keys: Keys,
        batch_size: int,
        steps_per_epoch: int,
        placement: BatchDivided,
    ):
        self._batches, self._keys, self._mesh = batches, keys, placement.mesh
        self.steps_per_epoch = steps_per_epoch
        self.images_per_epoch = steps_per_epoch * batch_size

    def advance(
        self,
        step: Step,
        state: TrainState,
        sums: Metrics,
        frozen: Weights,
        done: int,
        *,
        hyper: Hyper,
    ) -> tuple[TrainState, Metrics, int]:
        """See `Feed.advance`."""
        share = jax.tree.map(lambda leaf: np.asarray(leaf)[None], next(self._batches))
        batch = devices.assemble(self._mesh, share, axis=1)
        hyper = hyper._replace(learning_rate=hyper.learning_rate[:, done])
        epoch = np.asarray(done // self.steps_per_epoch, np.int32)
        state, sums = train_batch(
            step, state, sums, frozen, batch, self._keys, epoch=epoch, hyper=hyper
        )
        return state, sums, 1

    def position(self) -> dict[str, Any]:
        """Return the position of the iterator."""
        return self._batches.get_state()

    def seek(self, position: dict[str, Any]) -> None:
        """Reset the iterator to a position."""
        self._batches.set_state(position)

    def close(self) -> None:
        """Stop the decoding threads."""
        self._batches.close()
