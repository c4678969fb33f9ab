"""Image transforms on the device: the test transform, and augmentation keyed per example.

`prepare` converts a dataset's uint8 images to network inputs, once; `augment_batch` augments them
anew in every epoch. Both are pure and have fixed shapes, so they run inside `jit`, `vmap` (over
seeds, say) and `lax.scan`, without transfers between host and device.

Throughout: `images` are [N, H, W, C]; after `to_float` they are float32 in [0, 1] with C = 3,
not normalised (the networks do that). `key` is a `jax.random` key, new-style or raw.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data.augmentation import Augmentation
from rtl_jax.data.crop import DRAWS, crop_box
from rtl_jax.data.rotation import rotate
from rtl_jax.errors import UserError

# ITU-R 601 weights, with which PIL and torchvision compute the grey value of an RGB pixel.
LUMA = (0.299, 0.587, 0.114)

JITTER_ORDERS = np.array(list(itertools.permutations(range(3))))


# ---- The test transform -----------------------------------------------------------------------


def to_float(images: jax.Array) -> jax.Array:
    """Convert uint8 (0 to 255) or float ([0, 1]) [..., 1 or 3] to float32 [..., 3] in [0, 1].

    Raises UserError for another dtype, whose scale is unknown, or another number of channels.
    """
    images = _scale(images)
    return jnp.broadcast_to(images, (*images.shape[:-1], 3))


def _scale(images: jax.Array) -> jax.Array:
    """Apply `to_float` without its broadcast, so that grey images are resized as one channel."""
    images = jnp.asarray(images)
    if images.ndim < 3 or images.shape[-1] not in (1, 3):
        raise UserError(f"images: expected [..., height, width, 1 or 3]; received {images.shape}")
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(jnp.float32)
    raise UserError(f"images: expected uint8, or floats in [0, 1]; received {images.dtype}")


def resize(images: jax.Array, size: int | tuple[int, int]) -> jax.Array:
    """Resize float32 [N, H, W, C] bilinearly to `size`: an edge length, or (height, width).

    Like PIL's `Image.resize(size, BILINEAR)`: pixel centres are at half-integers, and the triangle
    filter widens when shrinking (antialiasing). PIL rounds to grey levels after each of its two
    passes and this does not, so they differ by up to 1/255.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise UserError(f"size: expected 1 pixel or more; received {size}")
    _, old_height, old_width, _ = images.shape
    rows = _triangle_weights(old_height, height)
    columns = _triangle_weights(old_width, width)
    return _weigh(images, rows, columns)


def _weigh(images: jax.Array, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """Apply `rows` [H', H] and `columns` [W', W] to float32 [N, H, W, C]."""
    # HIGHEST, because the error of TF32 or bfloat16 products alone can reach a grey level.
    return jnp.einsum(
        "ph,nhwc,qw->npqc", rows, images, columns, precision=jax.lax.Precision.HIGHEST
    )


def _triangle_weights(old: int, new: int) -> np.ndarray:
    """Return the weight of each old pixel in each new one, float32 [new, old]; rows sum to 1."""
    scale = old / new
    radius = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None])
    weights = np.maximum(0, 1 - distance / radius)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@partial(jax.jit, static_argnames="size")
def prepare(images: jax.Array, size: int) -> jax.Array:
    """Apply the test transform, which is also the constant part of the training transform.

    The shorter edge is resized to `size`, then the centre is cropped, as by torchvision's
    `Resize(size)` and `CenterCrop(size)`. (For non-square training images, the paper's code would
    crop at random from the whole longer edge; its six datasets are square.)

    Args:
      images: uint8 or float [N, H, W, C], C 1 or 3.
      size: pixels.

    Returns:
      float32 [N, size, size, 3] in [0, 1].

    Raises:
      UserError: if the shape, dtype or size is not as above.
    """
    images = _scale(images)
    if images.ndim != 4:
        raise UserError(f"images: expected [N, height, width, channels]; received {images.shape}")
    if size < 1:
        raise UserError(f"size: expected 1 pixel or more; received {size}")
    _, height, width, _ = images.shape
    return to_float(_weigh(images, *resize_weights(height, width, size)))


@partial(jax.jit, static_argnames="size")
def prepare_to_attack(images: jax.Array, size: int) -> jax.Array:
    """Apply `prepare` and clip to [0, 1], which attacks require.

    Resizing can leave it by a rounding error. Training does not mind, and does not clip.
    """
    return jnp.clip(prepare(images, size), 0, 1)


def resize_weights(height: int, width: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `prepare`'s weights of rows and columns, float32 [size, height], [size, width]."""
    short = min(height, width)
    # Crop the weights rather than the result, so that pixels outside the crop are never computed.
    rows, columns = (
        _centre(_triangle_weights(old, size if old == short else size * old // short), size)
        for old in (height, width)
    )
    return rows, columns


def _centre(weights: np.ndarray, size: int) -> np.ndarray:
    """Return the middle `size` rows; like torchvision, round half a pixel to the even offset."""
    start = round((len(weights) - size) / 2)
    return weights[start : start + size]


# ---- Augmentation -----------------------------------------------------------------------------


def example_keys(key: jax.Array, epoch: jax.Array | int, indices: jax.Array) -> jax.Array:
    """Derive one key per example from the run's key, the epoch and the example's index.

    Folding in the index in the training subset (not the position in the batch) makes an image's
    augmentation in an epoch independent of its batch, the batch size and the number of devices.

    Args:
      key: the run's augmentation key.
      epoch: int, traced or not.
      indices: int [N], the examples' indices in the training subset.

    Returns:
      keys [N].
    """
    epoch_key = jax.random.fold_in(key, epoch)
    return jax.vmap(lambda index: jax.random.fold_in(epoch_key, index))(jnp.asarray(indices))


@partial(jax.jit, static_argnames="augmentation")
def augment_batch(keys: jax.Array, images: jax.Array, augmentation: Augmentation) -> jax.Array:
    """Apply `augment` to float32 images [N, H, W, 3], each with its own key, [N]."""
    if augmentation.is_identity:
        return images
    return jax.vmap(partial(augment, augmentation=augmentation))(keys, images)


def augment(key: jax.Array, image: jax.Array, augmentation: Augmentation) -> jax.Array:
    """Apply the paper's random training transform: crop, flip, jitter and rotate, in this order.

    A resized crop, which the paper's transfer does not use, comes first.

    Args:
      key: a single key; the same key gives the same result.
      image: float32 [H, W, 3] in [0, 1].
      augmentation: the steps and their strengths; static under `jit`.

    Returns:
      float32 [H, W, 3] in [0, 1].
    """
    # A key for each step, used or not, so that disabling one does not change the others' draws.
    crop_key, flip_key, jitter_key, rotation_key = jax.random.split(key, 4)
    if augmentation.resized_crop:
        image = _resized_crop(jax.random.fold_in(key, 4), image, augmentation.resized_crop)
    if augmentation.crop_padding:
        image = _random_crop(crop_key, image, augmentation.crop_padding)
    if augmentation.flip:
        image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    strengths = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    if any(strengths):
        order_key, factor_key = jax.random.split(jitter_key)
        order = jnp.array(JITTER_ORDERS)[jax.random.randint(order_key, (), 0, 6)]
        change = jnp.array(strengths) * jax.random.uniform(factor_key, (3,), minval=-1, maxval=1)
        # Without the barrier, XLA fuses the crop and the flip into, and so repeats them in, each of
        # jitter's passes, which takes twice as long in total on a CPU.
        image = jitter(jax.lax.optimization_barrier(image), 1 + change, order)
    if augmentation.rotation:
        limit = augmentation.rotation
        degrees = jax.random.uniform(rotation_key, minval=-limit, maxval=limit)
        image = rotate(image, degrees, limit)
    return image


def _resized_crop(key: jax.Array, image: jax.Array, smallest: float) -> jax.Array:
    """Take a random crop (see `crop_box`), enlarged to the image's size as by `resize`."""
    height, width, _ = image.shape
    draws = jax.random.uniform(key, (DRAWS,))
    top, left, part_height, part_width = crop_box(draws, height, width, smallest)
    rows = _window_weights(height, top, part_height)
    columns = _window_weights(width, left, part_width)
    precision = jax.lax.Precision.HIGHEST
    return jnp.einsum("ph,hwc,qw->pqc", rows, image, columns, precision=precision).clip(0, 1)


def _window_weights(size: int, start: jax.Array, length: jax.Array) -> jax.Array:
    """Return `_triangle_weights` from pixels start .. start + length - 1, float32 [size, size]."""
    pixels = jnp.arange(size) + 0.5
    # The window is at most the whole image, so at most two pixels are averaged.
    centres = start + pixels * (length / size)
    weights = jnp.maximum(0, 1 - jnp.abs(pixels - centres[:, None]))
    weights *= (pixels > start) & (pixels < start + length)
    return weights / weights.sum(axis=1, keepdims=True)


def _random_crop(key: jax.Array, image: jax.Array, padding: int) -> jax.Array:
    """Take a random window of the image's size after zero-padding by `padding` on each side."""
    offsets = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return jax.lax.dynamic_slice(padded, (*offsets, 0), image.shape)


def jitter(image: jax.Array, factors: jax.Array, order: jax.Array) -> jax.Array:
    """Change brightness, contrast and saturation, like torchvision's `ColorJitter`.

    Each blends the image with a degenerate one (black; its mean grey value; its grey image):
    `factor * image + (1 - factor) * degenerate`, clipped to [0, 1].

    Args:
      image: float32 [H, W, 3] in [0, 1].
      factors: float32 [3], for brightness, contrast and saturation; 1 changes nothing.
      order: int [3], a permutation: 0 brightness, 1 contrast, 2 saturation, first to last.

    Returns:
      float32 [H, W, 3] in [0, 1].
    """
    # Under `vmap`, a switch over the six orders would compute all six. Since all three changes are
    # blends, each position in the order selects a degenerate image and a factor instead.
    for step in order:
        factor = factors[step]
        shade = grey(image)
        degenerate = jnp.where(step == 2, shade, jnp.where(step == 1, shade.mean(), 0))
        blend = factor * image + (1 - factor) * degenerate[..., None]
        image = jnp.clip(blend, 0, 1)
    return image


def grey(image: jax.Array) -> jax.Array:
    """Return the grey values, [H, W], of an RGB image, [H, W, 3]."""
    # Written out, since a matrix product is slower on a CPU, and would be TF32 on a GPU.
    return LUMA[0] * image[..., 0] + LUMA[1] * image[..., 1] + LUMA[2] * image[..., 2]
