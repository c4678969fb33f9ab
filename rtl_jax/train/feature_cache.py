"""Cache of the images that runs read repeatedly, as stored or as features at the split point.

Features are kept on the device up to `transfer.feature_cache_mib`, else in host memory, else on
disk, memory-mapped. Runs with different subsets of a dataset share a cache: it holds the union of
their images, and each run reads its own rows.
"""

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rtl_jax.data import ImageSet
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.errors import UserError
from rtl_jax.models.registry import Variables
from rtl_jax.runtime import resources
from rtl_jax.runtime.paths import cache_path
from rtl_jax.runtime.progress import bar
from rtl_jax.train.features import feature_shape, prefix_features
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.stored import as_stored, stored_shape

Place = Literal["device", "host", "disk"]

# Features take at most this fraction of free host memory and disk.
_SHARE = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureCache:
    """Images of a dataset and their labels, for one or several owners.

    `members[o]` are the ascending dataset indices of owner o's images. `data` holds the images
    owner by owner, repeated for each of the `views` draws of the augmentation. Runs that share
    their frozen part share one owner.
    """

    # [views * images, *stored_shape(shape)]: uint8 images, or features
    data: jax.Array | np.ndarray
    shape: tuple[int, ...]  # of an image or its features
    labels: np.ndarray  # int32 [images]
    members: tuple[np.ndarray, ...]
    dtype: np.dtype  # what `take` returns
    features: bool
    views: int = 1

    @property
    def shared(self) -> bool:
        """Whether an image has the same row for all runs."""
        return len(self.members) == 1

    def rows(self, run: int, images: np.ndarray) -> np.ndarray:
        """Return a run's rows of the first view of `images`, int [N] indices into the dataset."""
        owner = 0 if self.shared else run
        start = sum(map(len, self.members[:owner]))
        return start + np.searchsorted(self.members[owner], images)

    def take(self, rows: np.ndarray, views: np.ndarray | int = 0) -> jax.Array:
        """Return the given views of the images or features at `rows`, on the device."""
        places = (rows + views * len(self.labels)).astype(np.int32)
        if isinstance(self.data, jax.Array):
            return _gather(self.data, places, self.dtype, self.shape)
        images = self.data[places].reshape(*places.shape, *self.shape)
        return jax.device_put(images).astype(self.dtype)


@partial(jax.jit, static_argnums=(2, 3))
def _gather(data: jax.Array, rows: jax.Array, dtype: np.dtype, shape: tuple[int, ...]) -> jax.Array:
    return data[rows].reshape(*rows.shape, *shape).astype(dtype)


def cache_images(images: ImageSet, members: np.ndarray) -> FeatureCache:
    """Cache the stored images at the ascending indices `members` on the device."""
    chosen = images.images[members]
    return FeatureCache(
        jax.device_put(as_stored(chosen)),
        chosen.shape[1:],
        images.labels[members],
        (members,),
        chosen.dtype,
        features=False,
    )


@dataclasses.dataclass
class Room:
    """The room for features: up to `device` bytes on the device, otherwise as `settings` say."""

    settings: Recipe
    device: int

    @classmethod
    def of(cls, settings: Recipe) -> "Room":
        """Return room with all of `transfer.feature_cache_mib` free."""
        return cls(settings, settings.feature_cache_mib * 2**20)

    def place(self, size: int) -> Place | None:
        """Choose the fastest place with room for `size` bytes, or None if there is none."""
        kept = self.settings.feature_store
        if kept != "auto":
            return None if kept == "none" else kept
        if size <= self.device:
            self.device -= size
            return "device"
        if size <= _SHARE * resources.host_free():
            return "host"
        if size <= _SHARE * resources.disk_free(_features_path()):
            return "disk"
        return None


def _features_path() -> Path:
    return cache_path() / "features"


def cache_features(
    network: SplitNetwork,
    variables: Sequence[tuple[Variables, Variables]],
    images: ImageSet,
    members: Sequence[np.ndarray],
    room: Room,
    augmentation: Augmentation | None = None,
) -> FeatureCache | None:
    """Cache the features of `members[o]` under owner o's (parameters, statistics).

    With an augmentation, there are `transfer.views` draws for each image. Returns None if there is
    no room.
    """
    settings = room.settings
    one = feature_shape(network)
    dtype = np.dtype(np.float16) if settings.feature_bits == 16 else one.dtype
    views = 1 if augmentation is None else settings.views or 1
    total = sum(map(len, members))
    shape = (total * views, *stored_shape(one.shape))
    place = room.place(int(np.prod(shape)) * dtype.itemsize)
    if place is None:
        return None
    batches = (
        batch
        for view in range(views)
        for (params, batch_stats), rows in zip(variables, members, strict=True)
        for batch in prefix_features(
            network,
            params,
            batch_stats,
            images.images,
            rows,
            settings.eval_batch_size,
            augmentation=augmentation,
            view=view,
        )
    )
    data = _fill(batches, shape, dtype, place)
    labels = np.concatenate([images.labels[rows] for rows in members])
    return FeatureCache(
        data, one.shape, labels, tuple(members), one.dtype, features=True, views=views
    )


def _fill(
    batches: Iterable[jax.Array], shape: tuple[int, ...], dtype: np.dtype, place: Place
) -> jax.Array | np.ndarray:
    """Concatenate the batches, each reshaped to [batch, *shape[1:]], in an array at `place`."""
    data = jnp.zeros(shape, dtype) if place == "device" else _host_array(shape, dtype, place)
    start = 0
    with bar("features of the frozen blocks", shape[0]) as progress:
        for batch in batches:
            narrow = batch.astype(dtype)
            if dtype != batch.dtype and not jnp.isfinite(narrow).all():
                raise UserError(
                    "transfer.feature_bits: expected features below 65,504 for 16 bits, and "
                    "this network has larger ones; set it to 32"
                )
            if isinstance(data, np.ndarray):
                data[start : start + len(batch)] = np.reshape(narrow, (-1, *shape[1:]))
            else:
                data = _write(data, narrow, start)
            start += len(batch)
            progress.update(len(batch))
    return data


@partial(jax.jit, donate_argnums=0)
def _write(data: jax.Array, part: jax.Array, start: int) -> jax.Array:
    part = part.reshape(-1, *data.shape[1:])
    return lax.dynamic_update_slice_in_dim(data, part, start, axis=0)


def _host_array(shape: tuple[int, ...], dtype: np.dtype, place: Place) -> np.ndarray:
    if place == "host":
        return np.empty(shape, dtype)
    directory = _features_path()
    needed, free = int(np.prod(shape)) * dtype.itemsize, resources.disk_free(directory)
    if needed > free:
        raise UserError(
            f"transfer.feature_store: features take {needed:,} bytes on disk and {directory} has "
            f"{free:,} left: make room, set RTL_JAX_CACHE_DIR, or choose another store"
        )
    # The file has no name once it is open, so nothing is left however the process ends.
    with tempfile.TemporaryFile(dir=directory) as file:
        return np.memmap(file, dtype, "w+", shape=shape)
