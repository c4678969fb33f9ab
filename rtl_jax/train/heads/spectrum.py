"""A factorisation of frozen features that makes penalised fits cheap.

N images, d features, r = min(N, d) directions, C classes; float64 throughout. Features are centred
but not standardised: all features of a network are averages of the same kind of activation, so
their scales are meaningful. On five datasets with two sources and two sizes, standardisation cost a
ridge head up to 6.5 points of test accuracy and gained at most 0.3 (docs/study.md).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Spectrum(NamedTuple):
    """The singular value decomposition of centred features, X = U S V^T.

    mean: [d]; scores: U S, [N, r]; squares: S^2, [r], non-negative; axes: V, [d, r], zero for
    directions without variance.
    """

    mean: jax.Array
    scores: jax.Array
    squares: jax.Array
    axes: jax.Array

    @property
    def scale(self) -> jax.Array:
        """The mean squared norm of centred feature vectors, positive: the unit of penalties."""
        return jnp.maximum(self.squares.sum() / len(self.scores), 1e-30)

    def kernel(self, weights: jax.Array) -> jax.Array:
        """Convert weights [r, C] on the scores to weights [d, C] on the features."""
        return self.axes @ weights

    def bias(self, kernel: jax.Array, offset: jax.Array) -> jax.Array:
        """Return the bias for uncentred features from the `offset` [C] for centred ones."""
        return offset - self.mean @ kernel


def spectrum(features: jax.Array) -> Spectrum:
    """Factorise features [N, d] through the smaller of their two Gram matrices.

    Rounding errors are about machine epsilon times the largest eigenvalue. Penalties must be
    larger, as those of `heads` are by ten orders of magnitude.
    """
    mean = features.mean(0)
    centred = features - mean
    number, width = features.shape
    if number <= width:
        squares, left = jnp.linalg.eigh(centred @ centred.T)
        lengths = jnp.sqrt(above_rounding(squares))
        scores = left * lengths
        axes = centred.T @ (left * _inverse(lengths))
    else:
        squares, axes = jnp.linalg.eigh(centred.T @ centred)
        scores = centred @ axes
    return Spectrum(mean, scores, above_rounding(squares), axes)


def above_rounding(squares: jax.Array) -> jax.Array:
    """Set eigenvalues [r] of a Gram matrix within rounding error of zero to zero.

    Centring leaves one of them, of the direction in which all images are alike. Any rest of it,
    over a small penalty, would add to every image's leverage.
    """
    least = squares.max() * jnp.finfo(squares.dtype).eps * len(squares)
    return jnp.where(squares > least, squares, 0)


def _inverse(lengths: jax.Array) -> jax.Array:
    """Return 1 / length, and 0 for lengths within rounding error of zero."""
    least = lengths.max() * jnp.sqrt(jnp.finfo(lengths.dtype).eps * len(lengths))
    return jnp.where(lengths > least, 1 / jnp.where(lengths > least, lengths, 1), 0)
