"""Uniform numbers for randomised scores; a separate module, since hashing images imports JAX."""

import numpy as np

from rtl_jax.runtime.digest import image_digests


def uniforms_of(images: np.ndarray) -> np.ndarray:
    """Return a number in [0, 1) for each of N uint8 images, float64 [N]: a hash of its pixels.

    So an image always has the same prediction set, and different images have independent numbers.
    """
    return np.array([int(each, 16) for each in image_digests(images)], np.float64) / 2.0**64
