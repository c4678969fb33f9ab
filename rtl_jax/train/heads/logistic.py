"""A logistic head: multinomial regression with the penalty chosen by cross-validation.

    minimise 1/N sum_i crossentropy(W^T x_i + b, y_i) + l2/2 |W|^2

over W [d, C] and b [C], which is not penalised. This is scikit-learn's LogisticRegression with
C = 1 / (N l2). It is solved by Newton's method with conjugate gradients, in the coordinates of the
features' spectrum, where a diagonal preconditioner works well. The folds of the cross-validation
run in parallel, with each penalty warm-started from the previous solution.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.sparse.linalg import cg

from rtl_jax.train.heads.spectrum import Spectrum, spectrum

# In units of the mean squared norm of centred feature vectors, largest first.
PENALTIES = tuple(10.0 ** np.arange(-1, -7.25, -0.5))
# Tolerances on the gradient norm, relative to that at the start.
EXACT, ROUGH = 1e-11, 1e-3

_STEPS, _PRODUCTS, _HALVINGS = 100, 200, 30  # maximum numbers
_ENOUGH = 1e-4  # sufficient decrease (Armijo), as a fraction of the linear prediction


class Weights(NamedTuple):
    """Weights [r, C] on the scores of a spectrum, and offset [C]."""

    weights: jax.Array
    offset: jax.Array


class LogisticHead(NamedTuple):
    """Kernel [d, C] and bias [C] fitted with penalty l2 on the mean loss."""

    kernel: jax.Array
    bias: jax.Array
    l2: jax.Array


def logistic(
    features: jax.Array, labels: jax.Array, folds: jax.Array, num_classes: int, num_folds: int
) -> LogisticHead:
    """Fit a logistic head on features [N, d] and int labels [N].

    `folds`, int [N] in 0 .. num_folds - 1, assigns images to folds to choose the penalty. The
    spectrum is computed from all images. It uses no labels and does not change the optimum of a
    fold, which lies in the span of the fold's training images.
    """
    parts = spectrum(features)
    penalties = parts.scale * jnp.asarray(PENALTIES, features.dtype)
    losses = held_out_losses(
        parts, labels, folds, penalties, num_classes=num_classes, num_folds=num_folds
    )
    return at_penalty(parts, labels, penalties[losses.argmin()], num_classes)


def at_penalty(parts: Spectrum, labels: jax.Array, l2: jax.Array, num_classes: int) -> LogisticHead:
    """Fit the head with a given penalty."""
    counted = jnp.ones(len(labels), parts.scores.dtype)
    problem = _Problem(parts.scores, parts.squares, labels, counted, l2)
    found = minimise(problem, _nothing(parts, num_classes), EXACT)
    # The softmax is invariant to a constant added to all classes.
    offset = found.offset - found.offset.mean()
    kernel = parts.kernel(found.weights)
    return LogisticHead(kernel, parts.bias(kernel, offset), l2)


def held_out_losses(
    parts: Spectrum,
    labels: jax.Array,
    folds: jax.Array,
    penalties: jax.Array,
    *,
    num_classes: int,
    num_folds: int,
    tolerance: float = ROUGH,
) -> jax.Array:
    """Compute the mean cross-entropy of held-out images for each penalty, [P].

    Images whose class does not occur in the other folds are excluded: no penalty predicts them.
    """
    members = jax.nn.one_hot(labels, num_classes, dtype=parts.scores.dtype)

    def of_fold(fold: jax.Array) -> tuple[jax.Array, jax.Array]:
        counted = (folds != fold).astype(parts.scores.dtype)
        asked = (1 - counted) * (counted @ members > 0)[labels]

        def one(start: Weights, l2: jax.Array) -> tuple[Weights, jax.Array]:
            problem = _Problem(parts.scores, parts.squares, labels, counted, l2)
            found = minimise(problem, start, tolerance)
            return found, (asked * problem.losses(found)).sum()

        losses = lax.scan(one, _nothing(parts, num_classes), penalties)[1]
        return losses, asked.sum()

    losses, asked = jax.vmap(of_fold)(jnp.arange(num_folds))
    return losses.sum(0) / jnp.maximum(asked.sum(), 1)


def _nothing(parts: Spectrum, num_classes: int) -> Weights:
    shape = (parts.scores.shape[1], num_classes)
    return Weights(jnp.zeros(shape, parts.scores.dtype), jnp.zeros(num_classes, parts.scores.dtype))


class _Problem(NamedTuple):
    """The loss on images with `counted` 1, not 0, [N]; other fields as in `Spectrum`."""

    scores: jax.Array
    squares: jax.Array
    labels: jax.Array
    counted: jax.Array
    l2: jax.Array

    def logits(self, at: Weights) -> jax.Array:
        return self.scores @ at.weights + at.offset

    def losses(self, at: Weights) -> jax.Array:
        """Return the cross-entropy of every image, [N]."""
        log_probabilities = jax.nn.log_softmax(self.logits(at))
        return -jnp.take_along_axis(log_probabilities, self.labels[:, None], axis=1)[:, 0]

    def value(self, at: Weights) -> jax.Array:
        mean = (self.counted * self.losses(at)).sum() / self.counted.sum()
        return mean + self.l2 / 2 * (at.weights**2).sum()

    def product(self, probabilities: jax.Array, step: Weights) -> Weights:
        """Multiply the Hessian by a step, given `probabilities` [N, C] at the weights."""
        change = self.logits(step)
        inner = probabilities * (change - (probabilities * change).sum(1, keepdims=True))
        inner *= (self.counted / self.counted.sum())[:, None]
        return Weights(self.scores.T @ inner + self.l2 * step.weights, inner.sum(0))

    def precondition(self, probabilities: jax.Array, slope: Weights) -> Weights:
        """Divide by the diagonal that the Hessian has if all images are equally uncertain."""
        number = self.counted.sum()
        left = (self.counted[:, None] * probabilities * (1 - probabilities)).sum(0) / number
        left = jnp.maximum(left, jnp.finfo(left.dtype).eps)
        curved = left * (self.squares / len(self.labels))[:, None] + self.l2
        return Weights(slope.weights / curved, slope.offset / left)


class _Search(NamedTuple):
    at: Weights
    value: jax.Array
    slope: Weights
    steps: jax.Array
    stuck: jax.Array  # whether no step along the last direction reduced the loss


def minimise(problem: _Problem, start: Weights, tolerance: float) -> Weights:
    """Minimise from `start` to a gradient norm of `tolerance` times that at `start`.

    Relative to zero weights, the solution for one penalty would pass as that for the next: their
    gradients differ by the small penalty alone.
    """
    value_and_slope = jax.value_and_grad(_Problem.value, argnums=1)
    begun = _Search(
        start, *value_and_slope(problem, start), jnp.zeros((), int), jnp.zeros((), bool)
    )
    first = _length(begun.slope)
    at_zero = _length(value_and_slope(problem, jax.tree.map(jnp.zeros_like, start))[1])
    enough = jnp.maximum(tolerance * first, EXACT * at_zero)  # the latter is above rounding

    def unfinished(search: _Search) -> jax.Array:
        return (_length(search.slope) > enough) & (search.steps < _STEPS) & ~search.stuck

    def newton(search: _Search) -> _Search:
        probabilities = jax.nn.softmax(problem.logits(search.at))
        length = _length(search.slope)
        # Solve more and more accurately, for superlinear convergence.
        rest = jnp.minimum(0.1, jnp.sqrt(length / jnp.maximum(first, enough)))
        step = cg(
            partial(problem.product, probabilities),
            jax.tree.map(jnp.negative, search.slope),
            tol=rest,
            maxiter=_PRODUCTS,
            M=partial(problem.precondition, probabilities),
        )[0]
        promised = _dot(search.slope, step)

        def too_long(tried: tuple[jax.Array, jax.Array]) -> jax.Array:
            halvings, share = tried
            value = problem.value(_add(search.at, share, step))
            # Near the minimum, the decrease is below rounding error.
            slack = 8 * jnp.finfo(value.dtype).eps * jnp.abs(search.value)
            far = value > search.value + _ENOUGH * share * promised + slack
            return (far | ~jnp.isfinite(value)) & (halvings < _HALVINGS)

        halvings, share = lax.while_loop(
            too_long,
            lambda tried: (tried[0] + 1, tried[1] / 2),
            (jnp.zeros((), int), jnp.ones_like(promised)),
        )
        stuck = (halvings == _HALVINGS) | (promised >= 0)
        at = _add(search.at, jnp.where(stuck, 0, share), step)
        return _Search(at, *value_and_slope(problem, at), search.steps + 1, stuck)

    return lax.while_loop(unfinished, newton, begun).at


def _add(at: Weights, share: jax.Array, step: Weights) -> Weights:
    return jax.tree.map(lambda leaf, change: leaf + share * change, at, step)


def _dot(left: Weights, right: Weights) -> jax.Array:
    return (left.weights * right.weights).sum() + (left.offset * right.offset).sum()


def _length(slope: Weights) -> jax.Array:
    return jnp.sqrt(_dot(slope, slope))
