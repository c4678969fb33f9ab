"""Noise: Gaussian, shot and impulse."""

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data.corruptions.registry import register


def _normal(
    rng: np.random.Generator, height: int, width: int, sigma: float
) -> tuple[np.ndarray, ...]:
    return (np.float32(sigma) * rng.standard_normal((height, width, 3), np.float32),)


@register("gaussian_noise", _normal, random=True)
def gaussian_noise(image: jax.Array, noise: jax.Array) -> jax.Array:
    """Add normal noise."""
    return image + noise


@register("shot_noise", None)
def shot_noise(rng: np.random.Generator, image: np.ndarray, photons: float) -> np.ndarray:
    """Draw Poisson counts whose mean is `photons` at full brightness."""
    counted = rng.poisson(image / 255 * photons) / photons
    return np.rint(np.clip(counted, 0, 1) * 255).astype(np.uint8)


def _broken(
    rng: np.random.Generator, height: int, width: int, share: float
) -> tuple[np.ndarray, ...]:
    draws = rng.random((height, width, 3), np.float32)
    return draws < share, draws < share / 2


@register("impulse_noise", _broken, random=True)
def impulse_noise(image: jax.Array, broken: jax.Array, white: jax.Array) -> jax.Array:
    """Set a fraction of all values, independently in each channel, to 0 or 1."""
    return jnp.where(broken, white.astype(image.dtype), image)
