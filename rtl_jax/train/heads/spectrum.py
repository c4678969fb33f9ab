"""Frozen features in the coordinates in which penalised fits are cheap: one factorisation.

N images, d features, r = min(N, d) directions, C classes; float64 throughout. Features are centred
and never standardised: every feature of a network is an average of the same kind of activation,
so their sizes mean something. Over five data sets, two sources and two sizes standardising cost a
ridge head up to 6.5 points of test accuracy, and brought 0.3 at most (docs/study.md).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Spectrum(NamedTuple):
    """Centred features X = U S V^T.

    mean: [d]; scores: U S, [N, r]; squares: S^2, [r], 0 or more; axes: V, [d, r], with zeros for
    directions of no length.
    """

    mean: jax.Array
    scores: jax.Array
    squares: jax.Array
    axes: jax.Array

    @property
    def scale(self) -> jax.Array:
        """The mean squared length of a centred feature vector, above 0: the unit of penalties."""
        return jnp.maximum(self.squares.sum() / len(self.scores), 1e-30)

    def kernel(self, weights: jax.Array) -> jax.Array:
        """Weights [r, C] on the scores as weights [d, C] on the features."""
        return self.axes @ weights

    def bias(self, kernel: jax.Array, offset: jax.Array) -> jax.Array:
        """What to add to `features @ kernel` where `offset` [C] belongs to centred features."""
        return offset - self.mean @ kernel


def spectrum(features: jax.Array) -> Spectrum:
    """Factorise features [N, d] by the smaller of their two Gram matrices.

    Its rounding errors are of the size of the largest eigenvalue's last digits: penalties must lie
    above them, as those of `heads` do by ten orders of magnitude.
    """
    mean = features.mean(0)
    centred = features - mean
    number, width = features.shape
    if number <= width:
        squares, left = jnp.linalg.eigh(centred @ centred.T)
        lengths = jnp.sqrt(jnp.maximum(squares, 0))
        scores = left * lengths
        axes = centred.T @ (left * _inverse(lengths))
    else:
        squares, axes = jnp.linalg.eigh(centred.T @ centred)
        scores = centred @ axes
    return Spectrum(mean, scores, jnp.maximum(squares, 0), axes)


def _inverse(lengths: jax.Array) -> jax.Array:
    """1 / length, and 0 for what is a rounding error beside the longest."""
    least = lengths.max() * jnp.sqrt(jnp.finfo(lengths.dtype).eps * len(lengths))
    return jnp.where(lengths > least, 1 / jnp.where(lengths > least, lengths, 1), 0)
