"""Influence compared with retraining the head without an image."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rtl_jax.influence_functions.curvature import hessian_curvature
from rtl_jax.influence_functions.head import Head
from rtl_jax.influence_functions.method import solver_for
from rtl_jax.influence_functions.scores import gradient_kernel, influence_kernel, influence_scores
from rtl_jax.influence_functions.solve import Cholesky

L2 = 1e-3


def trained(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    l2: float | np.ndarray = L2,
    counts: np.ndarray | None = None,
    tolerance: float = 1e-10,
) -> Head:
    """Minimise mean cross-entropy + l2/2 |W|^2 over heads by Newton's method.

    l2 is one number or one for each input. An image counts as many times as `counts` says, 1 or
    close to it.
    """
    counts = np.ones(len(labels)) if counts is None else counts
    for _ in range(50):
        head = Head(weights[:, :-1].T, weights[:, -1])
        examples = head.examples(features, labels)
        errors = counts[:, None] * examples.errors
        gradient = errors.T @ examples.inputs / len(labels) + l2 * weights
        if np.linalg.norm(gradient) < tolerance:
            return head
        matrix = hessian_curvature(examples).assemble(l2=l2)
        weights = weights - np.linalg.solve(matrix, gradient.reshape(-1)).reshape(weights.shape)
    raise AssertionError("the head did not converge")


def test_predicted_changes_are_those_of_leaving_an_image_out():
    digits = load_digits(n_class=5)
    pixels, targets = digits.data / 16.0, digits.target
    features, labels = pixels[:400], targets[:400]
    optimum = trained(features, labels, np.zeros((5, 65)))
    train, test = optimum.examples(features, labels), optimum.examples(pixels[600:], targets[600:])
    solver = Cholesky.of(hessian_curvature(train), L2)
    removed = np.random.default_rng(0).choice(400, 50, replace=False)
    predicted = influence_kernel(solver)(test, train)[:, removed] / 400
    actual = np.empty_like(predicted)
    for column, row in enumerate(removed):
        kept = np.delete(np.arange(400), row)
        without = trained(features[kept], labels[kept], optimum.weights)
        actual[:, column] = without.examples(pixels[600:], targets[600:]).losses - test.losses
    assert np.corrcoef(predicted.ravel(), actual.ravel())[0, 1] > 0.95
    # The sign and the size: what helps is positive, and so is the change that its absence makes.
    assert 0.5 < np.polyfit(predicted.ravel(), actual.ravel(), 1)[0] < 2
    baseline = gradient_kernel(test, train)[:, removed]
    assert np.corrcoef(baseline.ravel(), actual.ravel())[0, 1] < 0.9


@pytest.mark.parametrize(
    "method",
    [
        {"solver": "cholesky"},  # by Woodbury's identity: 60 images, 65 inputs
        {"solver": "cholesky", "hessian": "autodiff"},
        {"solver": "conjugate_gradient", "tolerance": 1e-10},
    ],
)
def test_a_penalty_that_leaves_out_the_bias_leaves_it_out_of_the_damping(method: dict) -> None:
    """As of a fitted logistic head: scores are the derivatives of refits by an image's weight."""
    digits, random, l2 = load_digits(n_class=3), np.random.default_rng(0), 0.2
    pixels, labels = digits.data[:90] / 4.0, digits.target[:90].copy()
    labels[:12] = (labels[:12] + 1) % 3
    features, penalty, width = pixels[:60], np.append(np.full(64, l2), 0.0), 1e-3
    optimum = trained(features, labels[:60], np.zeros((3, 65)), penalty)
    train, test = (
        optimum.examples(features, labels[:60]),
        optimum.examples(pixels[60:], labels[60:]),
    )
    chosen = random.choice(60, 5, replace=False)
    slopes = np.empty((30, 5))
    for column, row in enumerate(chosen):
        more, less = (
            trained(
                features, labels[:60], optimum.weights, penalty, 1 + sign * width * np.eye(60)[row]
            )
            for sign in (1, -1)
        )
        losses = [one.examples(pixels[60:], labels[60:]).losses for one in (more, less)]
        slopes[:, column] = (losses[1] - losses[0]) / (2 * width)

    def error(damp_bias: bool) -> float:
        solver = solver_for(optimum, train, damping=l2, damp_bias=damp_bias, **method)
        scores = influence_scores(solver, test, train)[:, chosen] / 60
        return float(np.linalg.norm(scores - slopes) / np.linalg.norm(slopes))

    assert error(damp_bias=False) < 1e-4
    assert error(damp_bias=True) > 0.01
