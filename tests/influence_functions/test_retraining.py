"""Influence compared with retraining the head without an image."""

import numpy as np
from sklearn.datasets import load_digits

from rtl_jax.influence_functions.curvature import hessian_curvature
from rtl_jax.influence_functions.head import Head
from rtl_jax.influence_functions.scores import gradient_kernel, influence_kernel
from rtl_jax.influence_functions.solve import Cholesky

L2 = 1e-3


def trained(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, tolerance: float = 1e-10
) -> Head:
    """Minimise mean cross-entropy + L2/2 |W|^2 over heads by Newton's method."""
    for _ in range(50):
        head = Head(weights[:, :-1].T, weights[:, -1])
        examples = head.examples(features, labels)
        gradient = examples.errors.T @ examples.inputs / len(labels) + L2 * weights
        if np.linalg.norm(gradient) < tolerance:
            return head
        matrix = hessian_curvature(examples).assemble(l2=L2)
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
