"""Images whose textures are damaged (paper, section 5, Table 2): fewer pixels, or no high
frequencies; and test images with a common corruption.

A variant is made of a whole data set, training and test images alike, before anything random
happens to them. It is stored as 8 bits again, as images are everywhere, so that nothing after
this file knows of it: what a frequency leaves outside of [0, 1] is clipped, and the rest is off
by up to half a grey level. Computed in float64 with NumPy and SciPy, so that every machine gets
the same images and a run the same name.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from scipy import fft

from rtl_jax.data import cache
from rtl_jax.data.corruptions.corrupt import corrupt
from rtl_jax.data.corruptions.severities import Corruption
from rtl_jax.data.dataset import Dataset, Decoded, ImageSet, three_channels
from rtl_jax.data.pictures import allocate
from rtl_jax.data.transforms import resize_weights
from rtl_jax.errors import UserError
from rtl_jax.runtime.digest import image_digests
from rtl_jax.runtime.progress import bar

_BATCH = 64


def vary(
    dataset: Dataset,
    *,
    image_size: int,
    low_resolution: int | None = None,
    zeroed_frequencies: int = 0,
    cache_dir: Path,
) -> Dataset:
    """A variant of a data set; the set itself where nothing is to be done.

    `low_resolution` leaves images of that many pixels, which the network's own transform enlarges
    as it does all images; a low-pass leaves images of the network's `image_size`. Where both are
    given, the resolution is lowered first. A low-pass is kept in the cache.

    Raises UserError where images have fewer pixels than their resolution shall be lowered to.
    """
    if low_resolution is not None:
        dataset = _each_half(dataset, partial(_shrunk, pixels=low_resolution))
    size, zeroed = image_size, zeroed_frequencies
    if not zeroed:
        return dataset
    key = cache.key(dataset.name, files=(), settings=(size, zeroed, _content(dataset)))

    def compute() -> Decoded:
        filtered = _each_half(dataset, partial(_filtered, size=size, zeroed=zeroed))
        return Decoded(filtered.train, filtered.test, filtered.class_names)

    found = cache.fetch(cache_dir, key, compute)
    return dataclasses.replace(dataset, train=found.train, test=found.test)


def at_size(images: ImageSet, size: int) -> ImageSet:
    """Images of the network's size, with three channels: what `corrupted` takes."""
    return three_channels(_changed(images, size, "resizing", lambda images: images))


def corrupted(images: ImageSet, corruption: Corruption) -> ImageSet:
    """Images of `at_size`, each corrupted in the same way whichever others are beside it."""
    own = [int(name, 16) for name in image_digests(images.images)]
    with bar(str(corruption), len(images)) as progress:
        found = corrupt(images.images, corruption, indices=own, progress=progress.update)
    return ImageSet(found, images.labels)


def low_pass(images: np.ndarray, zeroed: int) -> np.ndarray:
    """Images without their `zeroed` highest frequencies, each channel by itself.

    Args:
        images: float [N, S, S, C].
        zeroed: how many of the S x S coefficients of the discrete Fourier transform are set to
            0, from the largest radius down (see `descending`); the real part of the inverse is
            what remains.

    Returns:
        float64 [N, S, S, C]; not clipped.
    """
    size = images.shape[1]
    kept = np.ones((size, size))
    kept.ravel()[descending(size)[:zeroed]] = 0
    # A real image has each coefficient twice, conjugated at the opposite frequency. Of a pair
    # that the count divides, the real part of the inverse has half.
    opposite = np.roll(kept[::-1, ::-1], 1, axis=(0, 1))
    gain = ((kept + opposite) / 2)[:, : size // 2 + 1, None]
    spectrum = fft.rfft2(images, axes=(1, 2), workers=-1)
    return fft.irfft2(spectrum * gain, s=(size, size), axes=(1, 2), workers=-1)


def descending(size: int) -> np.ndarray:
    """All frequencies of a size x size image, int [size * size], the highest first.

    Numbers are places in the transform's array, row by row. The radius of the frequency (u, v),
    whole numbers from -size/2 to size/2, is the root of u^2 + v^2. Of equal radii the order is
    fixed: pairs of opposite frequencies by the place of their first one, which comes before the
    other.
    """
    steps = np.rint(np.fft.fftfreq(size) * size).astype(int)
    radii = (steps[:, None] ** 2 + steps**2).ravel()
    places = np.arange(size * size)
    rows, columns = np.divmod(places, size)
    opposite = -rows % size * size + -columns % size
    return np.lexsort((places, np.minimum(places, opposite), -radii))


def _each_half(dataset: Dataset, change: Callable[[ImageSet], ImageSet]) -> Dataset:
    return dataclasses.replace(dataset, train=change(dataset.train), test=change(dataset.test))


def _shrunk(half: ImageSet, pixels: int) -> ImageSet:
    """Images of `pixels` x `pixels`."""
    _, height, width, _ = half.images.shape
    if pixels > min(height, width):
        raise UserError(
            f"target.low_resolution: expected at most the {min(height, width)} pixels that the "
            f"images have, received {pixels}"
        )
    return _changed(half, pixels, "lowering the resolution", lambda images: images)


def _filtered(half: ImageSet, size: int, zeroed: int) -> ImageSet:
    """Images of the network's size, without their highest frequencies."""
    return _changed(half, size, "low-pass", lambda images: low_pass(images, zeroed))


def _changed(
    half: ImageSet, size: int, what: str, change: Callable[[np.ndarray], np.ndarray]
) -> ImageSet:
    """Images as the network's transform resizes them, changed, in 8 bits; batch by batch."""
    count, height, width, channels = half.images.shape
    rows, columns = resize_weights(height, width, size)
    changed = allocate(count, (size, size), channels, what)
    with bar(what, count) as progress:
        for start in range(0, count, _BATCH):
            batch = half.images[start : start + _BATCH] / 255
            resized = np.einsum("ph,nhwc,qw->npqc", rows, batch, columns, optimize=True)
            levels = np.clip(change(resized), 0, 1) * 255
            changed[start : start + _BATCH] = np.rint(levels)
            progress.update(len(batch))
    return ImageSet(changed, half.labels)


def _content(dataset: Dataset) -> str:
    """sha256 of the images; their files are no longer known here."""
    digest = hashlib.sha256()
    for half in (dataset.train, dataset.test):
        for array in (half.images, half.labels):
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
