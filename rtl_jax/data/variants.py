"""Images with damaged textures (paper, section 5, Table 2): fewer pixels, or no high frequencies;
and test images with a common corruption.

A variant is made of a whole dataset, training and test images alike, before any random transform.
It is stored in 8 bits, like all images, so that later code need not know of it: low-pass results
outside [0, 1] are clipped, and the others have rounding errors of up to half a grey level.
Variants are computed in float64 with NumPy and SciPy, so that images, and thus the names of runs,
are the same on every machine.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from scipy import fft

from rtl_jax.data import cache
from rtl_jax.data.corruptions.corrupt import content_indices, corrupt
from rtl_jax.data.corruptions.severities import Corruption
from rtl_jax.data.dataset import Dataset, Decoded, ImageSet, three_channels
from rtl_jax.data.pictures import allocate
from rtl_jax.data.transforms import resize_weights
from rtl_jax.errors import UserError
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
    """Make a variant of a dataset; return the dataset itself if there is nothing to do.

    `low_resolution` shrinks images to that many pixels, which the network's own transform enlarges
    like all images; a low-pass yields images of the network's `image_size`. If both are given, the
    resolution is lowered first. Low-pass results are cached.

    Raises UserError if images have fewer pixels than `low_resolution`.
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
    """Resize images to the network's size, with three channels, as `corrupted` expects."""
    return three_channels(_changed(images, size, "resizing", lambda images: images))


def corrupted(images: ImageSet, corruption: Corruption) -> ImageSet:
    """Corrupt images from `at_size`; the result for an image does not depend on the others."""
    own = content_indices(images.images)
    with bar(str(corruption), len(images)) as progress:
        found = corrupt(images.images, corruption, indices=own, progress=progress.update)
    return ImageSet(found, images.labels)


def low_pass(images: np.ndarray, zeroed: int) -> np.ndarray:
    """Remove the `zeroed` highest frequencies from images, separately for each channel.

    Args:
        images: float [N, S, S, C].
        zeroed: the number of the S x S coefficients of the discrete Fourier transform to set to 0,
            from the largest radius down (see `descending`). The result is the real part of the
            inverse transform.

    Returns:
        float64 [N, S, S, C]; not clipped.
    """
    size = images.shape[1]
    kept = np.ones((size, size))
    kept.ravel()[descending(size)[:zeroed]] = 0
    # A real image has each coefficient twice, conjugated at the opposite frequency. If the count
    # splits such a pair, the real part of the inverse contains half of it.
    opposite = np.roll(kept[::-1, ::-1], 1, axis=(0, 1))
    gain = ((kept + opposite) / 2)[:, : size // 2 + 1, None]
    spectrum = fft.rfft2(images, axes=(1, 2), workers=-1)
    return fft.irfft2(spectrum * gain, s=(size, size), axes=(1, 2), workers=-1)


def descending(size: int) -> np.ndarray:
    """List all frequencies of a size x size image, int [size * size], highest first.

    They are given as row-major indices into the transform's array. The radius of a frequency (u,
    v), with integers u and v from -size/2 to size/2, is sqrt(u^2 + v^2). Ties are broken
    deterministically: pairs of opposite frequencies are ordered by their lower index, which comes
    first in its pair.
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
    """Shrink images to `pixels` x `pixels`."""
    _, height, width, _ = half.images.shape
    if pixels > min(height, width):
        raise UserError(
            f"target.low_resolution: expected at most the {min(height, width)} pixels that the "
            f"images have, received {pixels}"
        )
    return _changed(half, pixels, "lowering the resolution", lambda images: images)


def _filtered(half: ImageSet, size: int, zeroed: int) -> ImageSet:
    """Resize images to the network's size and remove their highest frequencies."""
    return _changed(half, size, "low-pass", lambda images: low_pass(images, zeroed))


def _changed(
    half: ImageSet, size: int, what: str, change: Callable[[np.ndarray], np.ndarray]
) -> ImageSet:
    """Resize images like the network's transform, change them and round to 8 bits, in batches."""
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
    """Return the sha256 of the images and labels, since their files are not known here."""
    digest = hashlib.sha256()
    for half in (dataset.train, dataset.test):
        for array in (half.images, half.labels):
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
