"""Values of training images by their definitions: over all subsets, and by refitting."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.influence_functions import knn_shapley, ridge_semivalues, ridge_values

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


@pytest.mark.parametrize("value", [knn_shapley, ridge_values, ridge_semivalues])
def test_labels_may_be_of_any_type(value) -> None:
    settings = {} if value is knn_shapley else {"l2": 0.7}
    wanted = value(FEATURES, LABELS, TEST, WANTED, **settings)
    for names in ([-1, 1, 7], ["ant", "bee", "cat"], [0.5, 1.5, 2.5]):
        known = np.array(names)
        found = value(FEATURES, known[LABELS], TEST, list(known[WANTED]), **settings)
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(UserError, match=r"labels \[n\] and \[T\], one for each image"):
        value(FEATURES, LABELS[:, None], TEST, WANTED, **settings)


def held_out_error(rows: list[int], l2: float) -> float:
    """Squared error after ridge regression on `rows` alone, by augmented least squares."""
    mean = FEATURES.mean(0)
    inputs = np.concatenate([FEATURES[rows] - mean, np.sqrt(l2) * np.eye(3)])
    targets = np.concatenate([np.eye(3)[LABELS[rows]] - 1 / 3, np.zeros((3, 3))])
    weights = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    return ((np.eye(3)[WANTED] - 1 / 3 - (TEST - mean) @ weights) ** 2).sum(1).mean()


@pytest.mark.parametrize("kind", ["shapley", "banzhaf"])
def test_semivalues_over_all_subsets(kind: str) -> None:
    expected = np.zeros(7)
    for row in range(7):
        others = [one for one in range(7) if one != row]
        for size in range(7):
            weight = 1 / (7 * comb(6, size)) if kind == "shapley" else 1 / 2**6
            for rows in combinations(others, size):
                gain = held_out_error(list(rows), 0.5) - held_out_error([*rows, row], 0.5)
                expected[row] += weight * gain
    found = ridge_semivalues(
        FEATURES, LABELS, TEST, WANTED, 0.5, kind=kind, num_subsets=4000, seed=1
    )
    scores = (found.values - expected) / found.standard_errors
    assert np.abs(scores).max() < 3.5 and (found.standard_errors < 0.01).all()
    # Standard errors are as wide as the spread over draws.
    scores = [
        (draw.values - expected) / draw.standard_errors
        for draw in (
            ridge_semivalues(
                FEATURES, LABELS, TEST, WANTED, 0.5, kind=kind, num_subsets=300, seed=seed
            )
            for seed in range(2, 42)
        )
    ]
    assert np.sqrt(np.mean(np.square(scores))) == pytest.approx(1, abs=0.25)


def test_shapley_values_share_what_all_images_gain() -> None:
    found = ridge_semivalues(FEATURES, LABELS, TEST, WANTED, 0.5, num_subsets=4000)
    gain = held_out_error([], 0.5) - held_out_error(list(range(7)), 0.5)
    assert held_out_error([], 0.5) == pytest.approx(2 / 3)  # guessing among three classes
    assert found.values.sum() == pytest.approx(gain, abs=0.02)


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"received \[7, 3\], \[5, 3\], 6 and 5"):
        knn_shapley(FEATURES, LABELS[:6], TEST, WANTED)
    with pytest.raises(UserError, match="k: expected a number from 1 to 7"):
        knn_shapley(FEATURES, LABELS, TEST, WANTED, 8)
    with pytest.raises(UserError, match="l2: expected a positive number"):
        ridge_values(FEATURES, LABELS, TEST, WANTED, 0.0)
    with pytest.raises(UserError, match="kind: expected shapley or banzhaf"):
        ridge_semivalues(FEATURES, LABELS, TEST, WANTED, 1.0, kind="core")
    with pytest.raises(UserError, match="finite features"):
        ridge_values(FEATURES, LABELS, TEST * np.nan, WANTED, 1.0)
