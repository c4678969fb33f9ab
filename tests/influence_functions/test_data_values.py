"""Values of training images by their definitions: over all subsets, and by refitting."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.influence_functions import knn_shapley, ridge_values

DRAW = np.random.default_rng(0)
FEATURES, LABELS = DRAW.normal(size=(7, 3)), np.array([0, 1, 2, 0, 1, 2, 0])
TEST, WANTED = DRAW.normal(size=(5, 3)), np.array([0, 1, 2, 1, 0])


def utility(rows: tuple[int, ...], k: int) -> float:
    """Compute the fraction of hits among the k nearest of `rows`, averaged over held-out images."""
    total = 0.0
    for image, label in zip(TEST, WANTED, strict=True):
        order = sorted(rows, key=lambda row: np.linalg.norm(FEATURES[row] - image))
        total += sum(LABELS[row] == label for row in order[:k]) / k
    return total / len(TEST)


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_shapley_values_over_all_subsets(k: int) -> None:
    expected = np.zeros(7)
    for row in range(7):
        others = [one for one in range(7) if one != row]
        for size in range(7):
            for rows in combinations(others, size):
                gain = utility((*rows, row), k) - utility(rows, k)
                expected[row] += gain / (7 * comb(6, size))
    found = knn_shapley(FEATURES, LABELS, TEST, WANTED, k)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.sum() == pytest.approx(utility(tuple(range(7)), k))


@pytest.mark.parametrize("width", [3, 30])
def test_ridge_values_by_refitting(width: int) -> None:
    features, tested = DRAW.normal(1, 1, (20, width)), DRAW.normal(1, 1, (9, width))
    labels, wanted = np.arange(20) % 3, np.arange(9) % 3

    def error(rows: np.ndarray) -> float:
        targets = np.eye(3)[labels[rows]]
        mean, centre = features[rows].mean(0), targets.mean(0)
        near = features[rows] - mean
        matrix = near.T @ near + 0.7 * np.eye(width)
        scores = (tested - mean) @ np.linalg.solve(matrix, near.T @ (targets - centre)) + centre
        return ((np.eye(3)[wanted] - scores) ** 2).sum(1).mean()

    every = np.arange(20)
    expected = [error(np.delete(every, row)) - error(every) for row in every]
    found = ridge_values(features, labels, tested, wanted, 0.7)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"received \[7, 3\], \[5, 3\], 6 and 5"):
        knn_shapley(FEATURES, LABELS[:6], TEST, WANTED)
    with pytest.raises(UserError, match="k: expected a number from 1 to 7"):
        knn_shapley(FEATURES, LABELS, TEST, WANTED, 8)
    with pytest.raises(UserError, match="l2: expected a positive number"):
        ridge_values(FEATURES, LABELS, TEST, WANTED, 0.0)
    with pytest.raises(UserError, match="finite features"):
        ridge_values(FEATURES, LABELS, TEST * np.nan, WANTED, 1.0)
