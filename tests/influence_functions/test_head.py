"""The head's gradients compared with finite differences, and invalid arguments."""

import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.influence_functions.head import Head, contrasts
from tests.influence_functions.problems import gradients, problem


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_the_losses_slopes(bias: bool):
    head, train, _ = problem(bias)
    inputs, labels = train.inputs, train.labels

    def losses(weights: np.ndarray) -> np.ndarray:
        logits = inputs @ weights.T
        return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]

    np.testing.assert_allclose(train.losses, losses(head.weights), rtol=1e-9)
    found, step = gradients(train), 1e-6
    np.testing.assert_array_equal(train.gradients().reshape(found.shape), found)
    for index in range(train.num_parameters):
        change = np.zeros(train.num_parameters)
        change[index] = step
        change = change.reshape(head.weights.shape)
        slope = (losses(head.weights + change) - losses(head.weights - change)) / (2 * step)
        np.testing.assert_allclose(found[:, index], slope, atol=1e-8)


def test_contrasts_are_an_orthonormal_basis_of_what_sums_to_nothing():
    basis = contrasts(5)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-15)
    np.testing.assert_allclose(basis.sum(0), 0, atol=1e-15)


@pytest.mark.parametrize(
    ("kernel", "bias", "message"),
    [
        (np.ones(3), None, r"expected a kernel \[features, classes\].*received \[3\]"),
        (np.ones((3, 1)), None, r"two classes or more, received \[3, 1\]"),
        (np.ones((3, 2)), np.ones(3), r"expected a bias \[2\].*received \[3\]"),
        (np.full((3, 2), np.nan), None, "expected finite numbers.*diverged"),
    ],
)
def test_shapes_that_are_no_head(kernel, bias, message: str):
    with pytest.raises(UserError, match=message):
        Head(kernel, bias)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.ones((4, 2)), np.zeros(4, int), r"the head takes \[N, 3\], received \[4, 2\]"),
        (np.ones((0, 3)), np.zeros(0, int), r"received \[0, 3\]"),
        (np.ones((4, 3)), np.zeros(5, int), r"expected integers \[4\].*received int64 \[5\]"),
        (np.ones((4, 3)), np.zeros(4), r"received float64"),
        (np.ones((4, 3)), np.array([0, 1, 2, 0]), r"classes 0\.\.1, received 0\.\.2"),
        (np.full((4, 3), np.inf), np.zeros(4, int), "finite"),
    ],
)
def test_examples_that_do_not_fit(features, labels, message: str):
    with pytest.raises(UserError, match=message):
        Head(np.ones((3, 2))).examples(features, labels)
