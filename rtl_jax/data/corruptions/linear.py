"""Linear maps of an image's rows and columns, computed on the host and applied on the device."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from PIL import Image
from scipy import ndimage


def smoothing(size: int, sigma: float, *, mode: str, truncate: float) -> np.ndarray:
    """Return a Gaussian filter for `size` pixels as a matrix, float32 [size, size].

    `mode` is the boundary mode of scipy.ndimage.
    """
    matrix = np.eye(size)
    if sigma > 0:
        matrix = ndimage.gaussian_filter1d(matrix, sigma, axis=0, mode=mode, truncate=truncate)
    return matrix.astype(np.float32)


def resampling(old: int, new: int, method: Image.Resampling) -> np.ndarray:
    """Return PIL's resizing from `old` to `new` pixels as a matrix, float32 [new, old]."""
    identity = Image.fromarray(np.eye(old, dtype=np.float32))
    return np.asarray(identity.resize((old, new), method))


def apply(rows: jax.Array, columns: jax.Array, image: jax.Array) -> jax.Array:
    """Apply `rows` [P, H] and `columns` [Q, W] to an image [H, W, C], giving [P, Q, C]."""
    return jnp.einsum("ph,hwc,qw->pqc", rows, image, columns, precision=lax.Precision.HIGHEST)


class Between(NamedTuple):
    """The two neighbours of each sampling position along an axis, NumPy or JAX, [..., size].

    low, high: int32. share: the weight of the second, float32.
    """

    low: Any
    high: Any
    share: Any


def enlarging(size: int, factor: float) -> Between:
    """Return the enlargement of the middle of an axis to the whole axis, as in the published code.

    The middle `ceil(size / factor)` pixels are enlarged by the factor (rounded), mapping first to
    first and last to last (scipy.ndimage's `zoom`), and the middle `size` of the result are kept.
    """
    part = int(np.ceil(size / factor))
    whole = round(part * factor)
    places = (np.arange(size) + (whole - size) // 2) * (part - 1) / max(whole - 1, 1)
    low = np.minimum(places.astype(np.int32), part - 1)
    start = (size - part) // 2
    high = np.minimum(low + 1, part - 1) + start
    return Between(low + start, high, (places - low).astype(np.float32))


def blend(image: jax.Array, rows: Between, columns: Between) -> jax.Array:
    """Interpolate an image [H, W, C] bilinearly at rows and columns."""
    share = rows.share[:, None, None]
    image = image[rows.low] * (1 - share) + image[rows.high] * share
    share = columns.share[:, None]
    return image[:, columns.low] * (1 - share) + image[:, columns.high] * share
