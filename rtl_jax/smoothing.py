"""Randomised smoothing: an L2 radius within which no perturbation changes a prediction.

Cohen, Rosenfeld and Kolter (ICML 2019). The smoothed classifier g returns the class that a network
predicts most often for an image under Gaussian noise N(0, sigma^2 I). If that class has a
probability of at least p > 1/2, g predicts it for all images within sigma Phi^-1(p) in L2 (their
theorem 1, with 1 - p as the bound for all other classes). The lower bound on p, with confidence
1 - alpha, is Clopper and Pearson's from n draws, for a class selected by separate draws; if it is
at most 1/2, g abstains.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import stats

from rtl_jax.attacks.adversarial import example_keys
from rtl_jax.attacks.base import LogitsFn
from rtl_jax.attacks.structure import ModelStructure
from rtl_jax.data.arrays import check_pixels
from rtl_jax.data.batching import padded_batches
from rtl_jax.errors import UserError, require, require_whole
from rtl_jax.runtime.progress import Progress

ABSTAINED = -1


@dataclasses.dataclass(frozen=True)
class Smoothing:
    """Settings of smoothing and certification.

    Attributes:
      sigma: the standard deviation of the noise, for pixels in [0, 1]; not clipped.
      samples: n, the number of draws that bound the probability of the selected class. The largest
        radius that they can certify is `largest_radius`.
      selection_samples: n_0, the number of preceding draws that select the class.
      alpha: the probability that the certificate of an image is wrong.
    """

    sigma: float = 0.25
    samples: int = 10_000
    selection_samples: int = 100
    alpha: float = 0.001

    def __post_init__(self) -> None:
        positive = 0 < self.sigma < float("inf")
        require(positive, "Smoothing: sigma", "a positive number", self.sigma)
        for name in ("samples", "selection_samples"):
            value = require_whole(getattr(self, name), f"Smoothing: {name}")
            object.__setattr__(self, name, value)
        require(0 < self.alpha < 1, "Smoothing: alpha", "a number between 0 and 1", self.alpha)

    @property
    def largest_radius(self) -> float:
        """The radius if all draws of an image have the same class."""
        return float(self.radius(np.asarray(self.samples)))

    def radius(self, hits: np.ndarray) -> np.ndarray:
        """Return the certified radius, float64, given `hits` of `samples` for the chosen class.

        It is not positive if the lower bound on the class's probability is at most 1/2.
        """
        bound = stats.beta.ppf(self.alpha, hits, self.samples - hits + 1)
        # Without a hit, the distribution above is not defined and the bound is 0.
        return self.sigma * stats.norm.ppf(np.where(hits > 0, bound, 0.0))


@dataclasses.dataclass(frozen=True)
class Certified:
    """Predictions of the smoothed classifier, [N] each.

    classes: int, `ABSTAINED` (-1) if no class is certain.
    radii: float64, the certified L2 radii, for pixels in [0, 1]; 0 after abstention.
    correct: bool, whether the class is the true one.
    hits: int, the number of draws of the selected class.
    """

    classes: np.ndarray
    radii: np.ndarray
    correct: np.ndarray
    hits: np.ndarray

    def certified_accuracy(self, radius: float) -> float:
        """Return the fraction of images classified correctly with a certificate of >= `radius`.

        At radius 0, this is the fraction classified correctly without abstention.
        """
        return float((self.correct & (self.radii >= radius)).mean())


def certify(
    logits_fn: LogitsFn,
    images: np.ndarray,
    labels: np.ndarray,
    smoothing: Smoothing,
    key: jax.Array,
    *,
    indices: np.ndarray | None = None,
    batch_size: int = 128,
    progress: Progress = lambda done: None,
) -> Certified:
    """Certify images by CERTIFY of Cohen et al. (2019, section 3.2.2).

    Args:
      logits_fn: images [N, ...] to logits [N, C], each image independently.
      images: float [N, ...] in [0, 1]; noise is drawn and added in at least float32.
      labels: int [N], the true classes.
      smoothing: noise, draws and confidence.
      key: the key of the noise; an image's draws depend only on the key and its index.
      indices: int [N], the index of each image for its draws; by default its position.
      batch_size: noisy images per program.
      progress: called with the number of images done.

    Raises:
      UserError: if logits are not finite, or arguments are inconsistent or not as described above.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if not 0 < len(images) == len(labels):
        raise UserError(
            "certify: expected a label for each of one or more images, received "
            f"{len(images)} images and {len(labels)} labels"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f"images: expected floats in [0, 1], received {images.dtype}")
    # In half precision, JAX's normal numbers have no tails and a mean other than 0: certificates
    # would be wrong.
    images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    check_pixels(images, "images")
    batch_size = require_whole(batch_size, "batch_size")
    indices = np.arange(len(images)) if indices is None else np.asarray(indices)
    number = min(batch_size, len(images))
    draws = max(1, batch_size // number)
    model, arrays = ModelStructure.split(logits_fn)
    counted = []
    for rows, inside, _ in padded_batches(len(images), number):
        chosen, hits, finite = _count(
            model,
            smoothing,
            draws,
            arrays,
            images[rows],
            example_keys(key, indices[rows]),
        )
        if not finite:
            raise UserError("certify: the network's logits are not finite under noise")
        counted.append((np.asarray(chosen)[:inside], np.asarray(hits)[:inside]))
        progress(inside)
    chosen, hits = (np.concatenate(parts) for parts in zip(*counted, strict=True))
    radii = np.maximum(smoothing.radius(hits), 0)
    classes = np.where(radii > 0, chosen, ABSTAINED)
    # An abstention is never correct, not even for a label of -1.
    return Certified(classes, radii, (radii > 0) & (classes == labels), hits)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _count(
    model: ModelStructure,
    smoothing: Smoothing,
    draws: int,
    arrays: list,
    images: jax.Array,
    keys: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the class selected by the first draws, [N], and its hits in the later ones, [N].

    Evaluates `draws` draws of each image at once. Also returns whether all logits were finite.
    """
    logits_fn = model.join(arrays)

    def noisy(key: jax.Array, image: jax.Array, draw: jax.Array) -> jax.Array:
        noise = jax.random.normal(jax.random.fold_in(key, draw), image.shape, image.dtype)
        return image + smoothing.sigma * noise

    def votes(first: jax.Array, total: int) -> tuple[jax.Array, jax.Array]:
        """Count the votes [N, C] of draws `first` up to `total`; say if all logits are finite."""
        numbers = first + jnp.arange(draws)
        copies = jax.vmap(lambda one: jax.vmap(noisy, (0, 0, None))(keys, images, one))(numbers)
        logits = logits_fn(copies.reshape(-1, *images.shape[1:]))
        votes = jax.nn.one_hot(logits.argmax(1), logits.shape[1], dtype=jnp.int32)
        counts = votes.reshape(draws, len(images), -1) * (numbers < total)[:, None, None]
        return counts.sum(0, dtype=jnp.int32), jnp.isfinite(logits).all()

    def tally(total: int, begin: int) -> tuple[jax.Array, jax.Array]:
        """Count the votes [N, C] of the draws from `begin` up to `total`."""

        def step(part: jax.Array, so_far: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
            counts, finite = votes(begin + part * draws, total)
            return so_far[0] + counts, so_far[1] & finite

        classes = jax.eval_shape(logits_fn, images).shape[1]
        nothing = jnp.zeros((len(images), classes), jnp.int32), jnp.asarray(True)
        return lax.fori_loop(0, -(-(total - begin) // draws), step, nothing)

    before = smoothing.selection_samples
    selected, finite = tally(before, 0)
    counts, also_finite = tally(before + smoothing.samples, before)
    chosen = selected.argmax(1)
    hits = jnp.take_along_axis(counts, chosen[:, None], axis=1)[:, 0]
    return chosen, hits, finite & also_finite
