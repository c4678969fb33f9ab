"""Corruption of images, batch by batch."""

from collections.abc import Callable, Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data.batching import padded_batches

# Importing these modules registers the corruptions.
from rtl_jax.data.corruptions import blur, digital, frost, noise, weather  # noqa: F401
from rtl_jax.data.corruptions.registry import ENTRIES
from rtl_jax.data.corruptions.severities import LEAST, Corruption
from rtl_jax.errors import UserError, require_whole
from rtl_jax.runtime.digest import image_digests
from rtl_jax.runtime.progress import Progress

_BATCH = 64


def corrupt(
    images: np.ndarray,
    corruption: Corruption,
    seed: int = 0,
    *,
    indices: Iterable[int] | None = None,
    progress: Progress = lambda done: None,
) -> np.ndarray:
    """Apply a corruption of ImageNet-C or CIFAR-10-C to images.

    Args:
      images: uint8, or float in [0, 1], [N, H, W, 3], at least 16 pixels high and wide.
      corruption: its name and severity.
      seed: the random seed, 0 or more; an image's random numbers depend only on it and the image's
        index.
      indices: N non-negative integers, by default the positions of the images.
      progress: called with the number of images done.

    Returns:
      [N, H, W, 3] of the dtype of `images`, uint8 rounded to the nearest level. Shot noise and JPEG
      compression read and produce 8-bit levels, whatever the dtype.

    Raises:
      UserError: if the images have another shape or dtype, or are smaller, the seed is negative, or
        the photographs of frost are not installed.
    """
    images, seed = np.asarray(images), require_whole(seed, "seed", 0)
    if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < LEAST:
        raise UserError(
            f"corruptions: expected images [N, height, width, 3] of {LEAST} pixels or more, "
            f"received {list(images.shape)}"
        )
    whole = images.dtype == np.uint8
    if not (whole or np.issubdtype(images.dtype, np.floating)):
        raise UserError(
            f"corruptions: expected uint8, or floats in [0, 1]; received {images.dtype}"
        )
    chosen = list(range(len(images)) if indices is None else indices)
    change = partial(_on_host if ENTRIES[corruption.name].plan is None else _on_device, corruption)
    corrupted = np.empty_like(images)
    for rows, number, _ in padded_batches(len(images), _BATCH):
        found = change(images[rows], [np.random.default_rng((seed, chosen[row])) for row in rows])
        corrupted[rows[:number]] = _levels(found[:number]) if whole else found[:number]
        progress(number)
    return corrupted


def content_indices(images: np.ndarray) -> list[int]:
    """Return the index of each image, uint8 or float in [0, 1], that follows from its 8-bit pixels.

    With these, an image's random numbers depend neither on its position nor on other images.
    """
    return [int(name, 16) for name in image_digests(images)]


def _on_host(
    corruption: Corruption, images: np.ndarray, rngs: list[np.random.Generator]
) -> np.ndarray:
    parameters = corruption.parameters(*images.shape[1:3])
    levels, apply = _levels(images), ENTRIES[corruption.name].apply
    pairs = zip(rngs, levels, strict=True)
    return np.stack([apply(rng, image, *parameters) for rng, image in pairs]) / np.float32(255)


def _on_device(
    corruption: Corruption, images: np.ndarray, rngs: list[np.random.Generator]
) -> np.ndarray:
    apply, plan, random = ENTRIES[corruption.name]
    assert plan is not None
    size = images.shape[1:3]
    plans = [
        plan(rng, *size, *corruption.parameters(*size)) for rng in rngs[: None if random else 1]
    ]
    arrays = [np.stack(each) for each in zip(*plans, strict=True)]
    if not random:
        arrays = [each[0] for each in arrays]
    pixels = images / np.float32(255) if images.dtype == np.uint8 else images
    return np.asarray(_applied(apply, random, jnp.asarray(pixels, jnp.float32), *arrays))


def _levels(images: np.ndarray) -> np.ndarray:
    """Convert images to uint8 levels, rounding floats."""
    if images.dtype == np.uint8:
        return images
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


@partial(jax.jit, static_argnums=(0, 1))
def _applied(
    apply: Callable[..., jax.Array], random: bool, images: jax.Array, *arrays: jax.Array
) -> jax.Array:
    axes = (0, *(0 if random else None for _ in arrays))
    return jnp.clip(jax.vmap(apply, axes)(images, *arrays), 0, 1)
