"""The form in which images or features lie on a device, from which steps gather their batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np

_LANES = 128  # numbers in a row of a TPU's registers
_SLICE = 400 * 1024  # bytes that a TPU's program gathers as one


def stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which one image or its features, of `shape`, are stored.

    A TPU lays an array [M, H, W, C] out with M next to C, while a gather of images needs each one
    in one piece: a program that gathers first copies everything that is stored. Rows of 128 numbers
    are laid out in order. What does not divide into such rows, or is one row, keeps its shape.
    """
    rows, rest = divmod(math.prod(shape), _LANES)
    return shape if rest or len(shape) == 1 else (rows, _LANES)


def as_stored(images: np.ndarray) -> np.ndarray:
    """Return images [M, ...] in their stored shape, without copying contiguous ones."""
    return images.reshape(len(images), *stored_shape(images.shape[1:]))


def gather(stored: jax.Array, places: jax.Array) -> jax.Array:
    """Return `stored[places]` with pieces of images or features in front, [N * pieces, ...].

    Of slices larger than `_SLICE`, the compiler for TPUs takes parts, and copies everything that is
    stored for each part in every step. So they are gathered in pieces below that.
    """
    rows, *rest = stored.shape[1:]
    least = math.ceil(rows * math.prod(rest) * stored.dtype.itemsize / _SLICE)
    pieces = next((number for number in range(least, rows) if rows % number == 0), rows)
    every = stored.reshape(-1, rows // pieces, *rest)
    return every[(places[:, None] * pieces + jnp.arange(pieces)).ravel()]
