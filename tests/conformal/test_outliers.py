"""p-values of outliers: uniform for images of the same distribution, small for others."""

import numpy as np
import pytest
from scipy import stats

from rtl_jax.conformal import Neighbours, energy, p_values
from rtl_jax.errors import UserError


def slow_p_value(kept: np.ndarray, new: np.ndarray, k: int) -> float:
    """Compute a p-value by the definition of full conformal prediction, treating images alike."""
    every = np.vstack([kept, new]).astype(np.float64)
    scores = [
        sorted(np.linalg.norm(each - other) for j, other in enumerate(every) if j != i)[k - 1]
        for i, each in enumerate(every)
    ]
    return float(np.mean([one >= scores[-1] - 1e-7 for one in scores]))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_new_image_joins_the_others(k: int) -> None:
    draw = np.random.default_rng(k)
    near = Neighbours.of(draw.normal(size=(25, 6)), k)
    new = draw.normal(size=(30, 6))
    directions = Neighbours.of(new).features
    expected = [slow_p_value(near.features, one[None], k) for one in directions]
    np.testing.assert_allclose(near.p_values(new), expected)


def test_p_values_are_uniform() -> None:
    """Over 1,000 draws of 19 images and a new one, each of the 20 ranks is equally frequent."""
    draw = np.random.default_rng(0)
    found: dict[str, list[float]] = {"energy": [], "distance": []}
    for _ in range(1000):
        features = draw.normal(size=(20, 4)) + draw.exponential(size=(20, 1)) * [3, 1, 0, 0]
        found["distance"] += Neighbours.of(features[:-1], 3).p_values(features[-1:]).tolist()
        energies = energy(features)
        found["energy"] += p_values(energies[:-1], energies[-1:]).tolist()
    for ranks in found.values():
        counts = np.bincount(np.round(np.multiply(ranks, 20)).astype(int), minlength=21)
        assert counts[0] == 0 and stats.chisquare(counts[1:]).pvalue > 0.001


def test_others_stand_out() -> None:
    draw = np.random.default_rng(1)
    near = Neighbours.of(draw.normal([5, 0, 0], 1, (200, 3)))
    assert (near.p_values(draw.normal([-5, 0, 0], 1, (50, 3))) < 0.05).mean() > 0.9
    # Logits that say nothing have the larger energy.
    sure, unsure = energy(np.array([[9.0, 0, 0]])), energy(np.zeros((1, 3)))
    assert unsure == pytest.approx(-np.log(3)) and sure < unsure
    assert energy(np.zeros((1, 3)), 2.0) == pytest.approx(-2 * np.log(3))


def test_what_is_kept_is_at_distance_nothing() -> None:
    features = np.random.default_rng(2).normal(size=(40, 5))
    assert Neighbours.of(features, 1).p_values(features[:3]).tolist() == [1, 1, 1]
    assert np.isfinite(Neighbours.of(np.zeros((9, 4))).p_values(np.zeros((1, 4)))).all()


@pytest.mark.parametrize(
    ("kept", "new", "words"),
    [
        (np.ones((5, 2)), np.ones((1, 2)), "more than 5 images, received 5"),
        (np.full((9, 2), np.inf), np.ones((1, 2)), "finite"),
        (np.eye(9), np.ones((1, 2)), "expected features of 9 numbers, received 2"),
    ],
)
def test_what_does_not_fit_is_said(kept: np.ndarray, new: np.ndarray, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Neighbours.of(kept).p_values(new)
