"""Rotation of an image like PIL's `Image.rotate(degrees, NEAREST)`, in two equivalent forms.

- a gather, pixel by pixel, for any angle.
- shifts, for small angles, where pixels move only a few pixels. TPUs have no fast gather of single
  pixels (one took thirty times the bytes of a ResNet-50's forward pass), but copy shifted images
  efficiently.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rtl_jax.runtime import devices

# PIL steps through the source in units of 1/65536 pixel. These are integers here too, relative to
# the image's centre, so that the nearest pixel is the same on every backend, jitted or not.
_ONE = 65536
# The largest accumulated rounding error of the steps over an image, in pixels.
_ROUNDING = 0.05


class _Rotation(NamedTuple):
    """The source coordinates of the pixels of a rotated image."""

    height: int
    width: int
    cos: jax.Array  # int32 [], in units of 1 / _ONE
    sin: jax.Array

    @classmethod
    def of(cls, height: int, width: int, degrees: jax.Array) -> "_Rotation":
        radians = jnp.deg2rad(degrees)
        steps = (
            jnp.round(_ONE * x).astype(jnp.int32) for x in (jnp.cos(radians), jnp.sin(radians))
        )
        return cls(height, width, *steps)

    # Twice the offset of a pixel's centre from the image's, so that it is an integer.

    def y(self, row: jax.Array, column: jax.Array) -> jax.Array:
        """Return the row in the source."""
        dx, dy = 2 * column + 1 - self.width, 2 * row + 1 - self.height
        return (self.sin * dx + self.cos * dy + self.height * _ONE) // (2 * _ONE)

    def x(self, row: jax.Array, column: jax.Array) -> jax.Array:
        """Return the column in the source."""
        dx, dy = 2 * column + 1 - self.width, 2 * row + 1 - self.height
        return (self.cos * dx - self.sin * dy + self.width * _ONE) // (2 * _ONE)


def rotate(image: jax.Array, degrees: jax.Array, limit: float = 180.0) -> jax.Array:
    """Rotate counter-clockwise about the centre: nearest pixel, zeros from outside.

    Equals PIL's `Image.rotate(degrees, NEAREST)`, which torchvision's `RandomRotation` calls.

    Args:
      image: float32 [H, W, C], H and W below 8,192.
      degrees: float32 [].
      limit: a bound on the absolute value of `degrees`; a small one is faster on a TPU.

    Returns:
      float32 [H, W, C].
    """
    height, width, _ = image.shape
    few = devices.platform() == "tpu" and farthest(height, width, limit) is not None
    return rotate_by_shifts(image, degrees, limit) if few else rotate_by_gather(image, degrees)


def rotate_by_gather(image: jax.Array, degrees: jax.Array) -> jax.Array:
    """Compute `rotate` by indexing every pixel."""
    height, width, _ = image.shape
    rotation = _Rotation.of(height, width, degrees)
    row = jnp.arange(height, dtype=jnp.int32)[:, None]
    column = jnp.arange(width, dtype=jnp.int32)[None, :]
    y, x = rotation.y(row, column), rotation.x(row, column)
    # Negative indices are outside too, rather than counted from the end as in NumPy.
    return jnp.asarray(image).at[y, x].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def farthest(height: int, width: int, limit: float) -> int | None:
    """Return how far a pixel moves at most along either axis; None: too far to use shifts."""
    sin, half = math.sin(math.radians(limit)), max(height, width) / 2
    shrinking = (1 - math.cos(math.radians(limit))) * half
    far = math.ceil(sin * half + _ROUNDING)
    return far if limit < 45 and sin * (far + 1) + shrinking + _ROUNDING < 1 else None


def rotate_by_shifts(image: jax.Array, degrees: jax.Array, limit: float) -> jax.Array:
    """Compute `rotate` without a gather, for angles so small that `farthest` is not None.

    Columns move up or down as a whole (each as far as its pixel in the middle row), then rows move
    left or right likewise. After that, a pixel is at most one pixel from its source along each
    axis. Every move selects among shifted copies.
    """
    height, width, _ = image.shape
    far = farthest(height, width, limit)
    assert far is not None
    rotation = _Rotation.of(height, width, degrees)
    middle_row, middle_column = jnp.int32(height // 2), jnp.int32(width // 2)

    def down(column: jax.Array) -> jax.Array:
        return (rotation.y(middle_row, column) - middle_row).clip(-far, far)

    def right(row: jax.Array) -> jax.Array:
        return (rotation.x(row, middle_column) - middle_column).clip(-far, far)

    def places(number: int, before: int, axis: int) -> jax.Array:
        every = jnp.arange(number, dtype=jnp.int32) - before
        return jnp.expand_dims(every, 1 - axis)

    # Columns last, since a TPU would pad three channels to 128. The margin is zero, and wide enough
    # for the farthest move.
    margin = far + 1
    source = jnp.pad(image.transpose(2, 0, 1), ((0, 0), (margin, margin), (margin, margin)))
    column = places(width + 2 * margin, margin, 1)
    columns_moved = _select(
        (down(column) + far == shift, source[:, shift : shift + height + 2])
        for shift in range(2 * far + 1)
    )
    row = places(height + 2, 1, 0)
    rows_moved = _select(
        (right(row) + far == shift, columns_moved[:, :, shift : shift + width + 2])
        for shift in range(2 * far + 1)
    )
    row, column = places(height, 0, 0), places(width, 0, 1)
    x = rotation.x(row, column)
    moved_row = rotation.y(row, column) - down(x)
    moved_column = x - right(moved_row)
    moved = _select(
        (
            (moved_row - row == i - 1) & (moved_column - column == j - 1),
            rows_moved[:, i : i + height, j : j + width],
        )
        for i in range(3)
        for j in range(3)
    )
    return moved.transpose(1, 2, 0)


def _select(choices: Iterable[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """Select for every pixel the copy whose condition holds, or 0 if none does."""
    found: Any = 0.0
    for condition, copy in choices:
        found = jnp.where(condition, copy, found)
    return found
