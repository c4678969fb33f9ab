"""A ridge head: least squares on one-hot labels, with the penalty chosen by leave-one-out.

    minimise sum_i |y_i - W^T x_i - b|^2 + l2 |W|^2

over W [d, C] and b [C], which is not penalised, in closed form. After one factorisation, each
penalty costs a product of small matrices, including the leave-one-out outputs: the residual of an
image is exactly that of the full fit divided by one minus its leverage. The penalty minimises the
leave-one-out squared error, the loss that is fitted (accuracy and cross-entropy were no better on
average: docs/study.md).

Least squares yields scores near 0 and 1, whose softmax is almost uninformative. The head is
therefore multiplied by the scale that makes the leave-one-out scores the best logits. This does not
change predictions, and makes probabilities usable, as fine-tuning from the head requires.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rtl_jax.train.heads.spectrum import Spectrum, spectrum

# In units of the mean squared norm of centred feature vectors.
PENALTIES = tuple(10.0 ** np.arange(-4, 3.25, 0.5))

_SCALES = (1e-2, 1e3)  # the range of the factor from scores to logits
_HALVINGS = 50


class RidgeHead(NamedTuple):
    """Kernel [d, C] and bias [C], multiplied by `scale`, fitted with penalty l2.

    scores: [N, C], leave-one-out scores before scaling.
    """

    kernel: jax.Array
    bias: jax.Array
    l2: jax.Array
    scale: jax.Array
    scores: jax.Array


def ridge(features: jax.Array, labels: jax.Array, num_classes: int) -> RidgeHead:
    """Fit a ridge head on features [N, d] and int labels [N] of at least two images."""
    parts, targets = spectrum(features), jax.nn.one_hot(labels, num_classes, dtype=features.dtype)
    penalties = parts.scale * jnp.asarray(PENALTIES, features.dtype)

    def error(l2: jax.Array) -> jax.Array:
        return ((targets - leave_one_out(parts, targets, l2)) ** 2).sum()

    # Sequentially, since a vmap would multiply the memory by the number of penalties.
    l2 = penalties[lax.map(error, penalties).argmin()]
    scores = leave_one_out(parts, targets, l2)
    scale = logit_scale(scores, labels)
    offset = targets.mean(0)
    weights = parts.scores.T @ (targets - offset) / (parts.squares + l2)[:, None]
    kernel = scale * parts.kernel(weights)
    return RidgeHead(kernel, parts.bias(kernel, scale * offset), l2, scale, scores)


def leave_one_out(parts: Spectrum, targets: jax.Array, l2: jax.Array) -> jax.Array:
    """Compute the scores of every image from the fit on all others, [N, C]; `targets` [N, C].

    The penalty l2 is fixed. The mean changes with the image that is left out, as in a refit.
    """
    number = len(targets)
    offset = targets.mean(0)
    shrunk = parts.scores / (parts.squares + l2)[:, None].T
    fitted = offset + shrunk @ (parts.scores.T @ (targets - offset))
    leverages = 1 / number + (shrunk * parts.scores).sum(1)
    return targets - (targets - fitted) / (1 - leverages)[:, None]


def logit_scale(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Find the factor by which scores [N, C] become the logits of smallest cross-entropy.

    An additional image with a uniform label is counted, so that error-free scores do not become
    certainties. Cross-entropy is convex in the factor, so its derivative is bisected.
    """
    unknown = 1 / (len(scores) + 1)
    picked = jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    wanted = ((1 - unknown) * picked + unknown * scores.mean(1)).mean()

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        expected = (jax.nn.softmax(jnp.exp(middle) * scores) * scores).sum(1).mean()
        above = expected > wanted
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    start = tuple(jnp.log(jnp.asarray(end, scores.dtype)) for end in _SCALES)
    low, high = lax.fori_loop(0, _HALVINGS, halve, start)
    return jnp.exp((low + high) / 2)
