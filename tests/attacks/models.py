"""Small models with a known worst case, or that another library can attack."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

WEIGHTS = np.random.default_rng(7)


def linear(w: np.ndarray, b: float) -> Callable[[jax.Array], jax.Array]:
    """Return the logits [0, w.x + b] of two classes."""

    def logits_fn(images: jax.Array) -> jax.Array:
        score = jnp.dot(images.reshape(len(images), -1), w.ravel(), precision="highest") + b
        return jnp.stack([jnp.zeros_like(score), score], axis=1)

    return logits_fn


def _mlp(params: dict, images: jax.Array) -> jax.Array:
    hidden = jnp.tanh(images.reshape(len(images), -1) @ params["first"])
    return hidden @ params["second"]


def mlp(seed: int = 0, pixels: int = 48, classes: int = 4, scale: float = 1.0) -> Partial:
    """Return a two-layer network whose weights are arguments."""
    rng = np.random.default_rng(seed)
    params = {
        "first": jnp.asarray(rng.normal(size=(pixels, 16)) / 4, jnp.float32),
        "second": jnp.asarray(scale * rng.normal(size=(16, classes)), jnp.float32),
    }
    return Partial(_mlp, params)


def pictures(count: int, size: int = 4, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Draw random images [count, size, size, 3]."""
    rng = np.random.default_rng(count)
    return rng.uniform(low, high, (count, size, size, 3)).astype(np.float32)


def distance(images: np.ndarray, originals: np.ndarray, norm: str) -> np.ndarray:
    """Compute the norm of each change in float64."""
    change = np.asarray(images, np.float64) - np.asarray(originals, np.float64)
    change = np.abs(change.reshape(len(change), -1))
    return change.max(1) if norm == "linf" else np.sqrt((change**2).sum(1))
