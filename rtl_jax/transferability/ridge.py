"""The ridge head on the features of all boundaries that fine-tuning could use.

Fine-tuning the last k blocks can build on the output of the frozen part and change everything after
it. Its closed-form proxy is a ridge head on the pooled features of every boundary from the split
point on, each centred and scaled to the same mean square, with exact leave-one-out predictions
(`train.heads.ridge`). It is computed from Gram matrices, which add up.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.spatial.distance import pdist, squareform

from rtl_jax.runtime import devices
from rtl_jax.train.heads.ridge import PENALTIES, leave_one_out, logit_scale
from rtl_jax.train.heads.spectrum import Spectrum, above_rounding


class LeftOut(NamedTuple):
    """Leave-one-out predictions with the best penalty, and accuracies with the others.

    losses: float64 [N], cross-entropy (nats) of each image by the head fitted without it.
    hits: bool [N]. path: float64 [P], the fraction of hits at each of `PENALTIES`.
    """

    losses: np.ndarray
    hits: np.ndarray
    path: np.ndarray


def gram(features: np.ndarray) -> np.ndarray:
    """Compute inner products [N, N] of centred features [N, d], over their mean squared norm."""
    centred = features - features.mean(0, dtype=np.float64)
    products = centred @ centred.T
    return products / max(np.trace(products) / len(features), 1e-30)


def gaussian_gram(features: np.ndarray) -> np.ndarray:
    """Compute the `gram` [N, N] of the implicit features of a Gaussian kernel.

    exp(-|f - f'|^2 / m) for features [N, d] with m the median of the squared distances, so that a
    ridge head on it is a kernel ridge classifier with an unpenalised bias.
    """
    squares = pdist(features, "sqeuclidean")
    kernel = squareform(np.exp(-squares / max(float(np.median(squares)), 1e-30)))
    np.fill_diagonal(kernel, 1)
    return subset_gram(kernel, np.arange(len(features)))


def subset_gram(gram: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Compute the `gram` [M, M] of the features at int `rows` [M] from that of all features."""
    inner = gram[np.ix_(rows, rows)]
    mean = inner.mean(0)
    centred = inner - mean - mean[:, None] + mean.mean()
    return centred / max(np.trace(centred) / len(rows), 1e-30)


def ridge_left_out(gram: np.ndarray, labels: np.ndarray, num_classes: int) -> LeftOut:
    """Fit a ridge head on a Gram matrix [N, N] of centred features; labels are int [N]."""
    device = jax.local_devices(backend="cpu")[0] if devices.platform() == "tpu" else None
    with jax.enable_x64(True), jax.default_matmul_precision("highest"), jax.default_device(device):
        return LeftOut(*map(np.asarray, _left_out(jnp.asarray(gram), labels, num_classes)))


@partial(jax.jit, static_argnums=2)
def _left_out(
    gram: jax.Array, labels: jax.Array, num_classes: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    squares, left = jnp.linalg.eigh(gram)
    squares = above_rounding(squares)
    # The kernel with respect to the features is not needed, nor are their mean and axes.
    nothing = jnp.zeros((0,), gram.dtype)
    parts = Spectrum(nothing, left * jnp.sqrt(squares), squares, nothing[None])
    targets = jax.nn.one_hot(labels, num_classes, dtype=gram.dtype)
    penalties = parts.scale * jnp.asarray(PENALTIES, gram.dtype)

    def measure(l2: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = leave_one_out(parts, targets, l2)
        return ((targets - scores) ** 2).sum(), (scores.argmax(1) == labels).mean(
            dtype=scores.dtype
        )

    errors, path = lax.map(measure, penalties)
    scores = leave_one_out(parts, targets, penalties[errors.argmin()])
    log_probabilities = jax.nn.log_softmax(logit_scale(scores, labels) * scores)
    losses = -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
    return losses, scores.argmax(1) == labels, path
