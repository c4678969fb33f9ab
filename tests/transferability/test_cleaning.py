"""Heads with and without suspects, against least squares by hand and labels made wrong."""

import numpy as np
import pytest

from rtl_jax.errors import UserError
from rtl_jax.train.heads.ridge import PENALTIES
from rtl_jax.transferability import clean

DRAW = np.random.default_rng(0)
NUMBER, CLASSES, FOLDS = 120, 3, 4
TRUE = np.arange(NUMBER) % CLASSES
FEATURES = DRAW.normal(size=(NUMBER, 8)) + 1.5 * np.eye(8)[TRUE]
PLACES = np.arange(NUMBER) // CLASSES % FOLDS
LABELS = TRUE.copy()
WRONG = DRAW.permutation(NUMBER)[:18]
LABELS[WRONG] = (LABELS[WRONG] + 1) % CLASSES


def refit(rows: np.ndarray, l2: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares on one-hot labels: the mean features, their weights and the mean targets."""
    targets = np.eye(CLASSES)[LABELS[rows]]
    mean, offset = FEATURES[rows].mean(0), targets.mean(0)
    near = FEATURES[rows] - mean
    matrix = near.T @ near + l2 * np.eye(8)
    return mean, np.linalg.solve(matrix, near.T @ (targets - offset)), offset


def scores(rows: np.ndarray, tested: np.ndarray, l2: float) -> np.ndarray:
    mean, weights, offset = refit(rows, l2)
    return (FEATURES[tested] - mean) @ weights + offset


def refitted_hits(rows: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Hits of the head with the penalty of least squared error, each image refitted without."""
    near = FEATURES[rows] - FEATURES[rows].mean(0)
    targets = np.eye(CLASSES)[LABELS[rows]]

    def error(l2: float) -> float:
        left = [scores(np.delete(rows, i), rows[i : i + 1], l2)[0] for i in range(len(rows))]
        return ((targets - np.array(left)) ** 2).sum()

    scale = (near**2).sum(1).mean()
    best = min((scale * penalty for penalty in PENALTIES), key=error)
    return scores(rows, tested, best).argmax(1) == LABELS[tested]


def test_every_fold_is_held_out_by_a_head_of_the_others() -> None:
    (found,) = clean(FEATURES, LABELS, PLACES, CLASSES, shares=[0.1])
    assert (found.num_images, found.removed) == (90, 9)
    for fold in range(FOLDS):
        inside = np.flatnonzero(fold == PLACES)
        hits = refitted_hits(np.flatnonzero(fold != PLACES), inside)
        np.testing.assert_array_equal(found.every[inside], hits)


def test_suspects_are_the_wrong_labels() -> None:
    """Without them, heads name more images rightly whose own labels are right."""
    gains, true = [], np.arange(300) % CLASSES
    for seed in range(4):
        draw = np.random.default_rng(seed)
        features = draw.normal(size=(300, 30)) + 3 * np.eye(30)[true]
        order = draw.permutation(300)
        wrong, right = order[:45], order[45:]
        labels = true.copy()
        labels[wrong] = (labels[wrong] + 1) % CLASSES
        folds = np.arange(300) // CLASSES % FOLDS
        (one,) = clean(features, labels, folds, CLASSES, shares=[0.15], part=0.4)
        assert (one.num_images, one.removed) == (90, 14)
        every = one.every[right].mean()
        ways = one.without_suspects, one.without_random
        gains.append([100 * (way[right].mean() - every) for way in ways])
    gain, at_random = np.mean(gains, axis=0)
    assert gain > 1 and gain > at_random + 2


def test_the_interval_is_of_paired_differences() -> None:
    (one,) = clean(FEATURES, LABELS, PLACES, CLASSES, shares=[0.15], part=0.4)
    differences = 100.0 * (one.without_suspects.astype(int) - one.every)
    mean, half = one.gain
    assert mean == pytest.approx(differences.mean())
    assert half == pytest.approx(1.98 * differences.std(ddof=1) / NUMBER**0.5, rel=1e-3)


def test_what_is_held_out_has_no_say() -> None:
    """Other labels of one fold change nothing that is predicted for it but the hits themselves."""
    fold = PLACES == 2
    other = np.where(fold, (LABELS + 1) % CLASSES, LABELS)
    one, two = (clean(FEATURES, each, PLACES, CLASSES, shares=[0.2])[0] for each in (LABELS, other))
    for name in ("every", "without_suspects"):
        # Labels moved by one: a hit before cannot be a hit after.
        assert not (getattr(one, name) & getattr(two, name))[fold].any()


def test_shares_outside_their_range_are_refused() -> None:
    with pytest.raises(UserError, match="shares: expected numbers between 0 and 1, received 1"):
        clean(FEATURES, LABELS, PLACES, CLASSES, shares=[1.0])
    with pytest.raises(UserError, match="part: expected a number above 0, up to 1"):
        clean(FEATURES, LABELS, PLACES, CLASSES, shares=[0.1], part=0.0)
