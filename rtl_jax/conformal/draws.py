"""The uniform numbers of scores that draw; apart, since hashing images takes JAX's package."""

import numpy as np

from rtl_jax.runtime.digest import image_digests


def uniforms_of(images: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each of uint8 images, float64 [N]: a hash of its pixels.

    An image has the same prediction set whenever it is asked for, and different images' are drawn
    independently.
    """
    return np.array([int(each, 16) for each in image_digests(images)], np.float64) / 2.0**64
