"""Scores compared with transcriptions of their papers, refits and dense linear algebra."""

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from rtl_jax.train.heads.ridge import PENALTIES
from rtl_jax.transferability import scores
from rtl_jax.transferability.ridge import gaussian_gram, gram, ridge_left_out

DRAW = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), 14)[DRAW.permutation(42)]


def features(width: int, pull: float = 1.0) -> np.ndarray:
    """Draw features of 42 images in 3 classes, whose centres are `pull` apart."""
    draw = np.random.default_rng(width)
    return draw.normal(size=(42, width)) + pull * draw.normal(size=(3, width))[LABELS]


def log_evidence(features: np.ndarray, target: np.ndarray, alpha: float, beta: float) -> float:
    """Compute the log evidence of y ~ N(0, F F^T / alpha + I / beta): You et al. (2021), eq. 2."""
    number = len(target)
    covariance = features @ features.T / alpha + np.eye(number) / beta
    return stats.multivariate_normal(np.zeros(number), covariance).logpdf(target)


@pytest.mark.parametrize("width", [5, 60])
def test_log_me_is_the_largest_evidence(width: int) -> None:
    """Over all alpha and beta, found by a search without fixed points."""
    inputs, each = features(width), []
    for label in range(3):
        target = (label == LABELS).astype(float)
        found = optimize.minimize(
            lambda at, target=target: -log_evidence(inputs, target, *np.exp(at)),
            np.zeros(2),
            method="Nelder-Mead",
            options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 2000},
        )
        each.append(-found.fun / 42)
    assert scores.log_me(inputs, LABELS) == pytest.approx(np.mean(each), abs=1e-5)


def test_h_score_without_shrinkage_is_the_papers() -> None:
    """With many images, Ledoit and Wolf's shrinkage is negligible."""
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 3, 30_000)
    inputs = draw.normal(size=(30_000, 4)) + np.eye(3, 4)[labels]
    means = np.stack([inputs[labels == label].mean(0) for label in range(3)])[labels]
    expected = np.trace(np.linalg.pinv(np.cov(inputs.T)) @ np.cov(means.T))
    assert scores.h_score(inputs, labels) == pytest.approx(expected, rel=0.01)


def test_h_score_of_noise_is_small_however_few_images() -> None:
    """It is at most C - 1: of features that need shrinking, the covariance of means is shrunk."""
    draw = np.random.default_rng(1)
    labels, inputs = np.arange(100) % 3, draw.normal(size=(100, 768))
    covariance, share = ledoit_wolf(inputs)
    means = np.stack([inputs[labels == label].mean(0) for label in range(3)])[labels]
    between = np.cov(means.T, bias=True)
    expected = (1 - share) * np.trace(np.linalg.inv(covariance) @ between)
    assert scores.h_score(inputs, labels) == pytest.approx(expected, rel=1e-9)
    assert 0 < expected < 2


def test_leep_by_sums() -> None:
    """Nguyen et al. (2020), equations 1 and 2, term by term."""
    probabilities = np.random.default_rng(2).dirichlet(np.ones(5), 42)
    joint = np.zeros((3, 5))
    for label, row in zip(LABELS, probabilities, strict=True):
        for source, share in enumerate(row):
            joint[label, source] += share / 42
    total = 0.0
    for label, row in zip(LABELS, probabilities, strict=True):
        expected = sum(joint[label, z] / joint[:, z].sum() * row[z] for z in range(5))
        total += np.log(expected)
    assert scores.leep(probabilities, LABELS) == pytest.approx(total / 42, rel=1e-12)


def test_nce_is_an_entropy() -> None:
    probabilities = np.random.default_rng(3).dirichlet(np.ones(4), 42)
    named = probabilities.argmax(1)
    expected = 0.0
    for source in np.unique(named):
        inside = LABELS[named == source]
        expected -= len(inside) / 42 * stats.entropy(np.bincount(inside))
    assert scores.nce(probabilities, LABELS) == pytest.approx(expected, rel=1e-12)
    # Source classes that tell the labels leave nothing open; one alone leaves everything.
    assert scores.nce(np.eye(3)[LABELS], LABELS) == pytest.approx(0)
    everything = -stats.entropy(np.bincount(LABELS))
    assert scores.nce(np.ones((42, 1)), LABELS) == pytest.approx(everything)


def test_neighbours_and_means_leave_the_image_out() -> None:
    inputs = features(6, 0.7)
    nearest, mean = [], []
    for left in range(42):
        rest = np.arange(42) != left
        for model, hits in ((KNeighborsClassifier(1), nearest), (NearestCentroid(), mean)):
            model.fit(inputs[rest], LABELS[rest])
            hits.append(model.predict(inputs[left : left + 1])[0] == LABELS[left])
    assert scores.nearest_neighbour(inputs, LABELS) == np.mean(nearest)
    assert scores.nearest_mean(inputs, LABELS) == np.mean(mean)
    assert 0.4 < np.mean(mean) < 1


@pytest.mark.parametrize("widths", [(7,), (50,), (5, 30)])
def test_the_ridge_head_is_refitted_without_each_image(widths: tuple[int, ...]) -> None:
    """On features of one or several boundaries, concatenated, each with mean square norm 1."""
    parts = [features(width) for width in widths]
    found = ridge_left_out(sum(gram(one) for one in parts), LABELS, 3)
    scaled = [one - one.mean(0) for one in parts]
    scaled = [one / np.sqrt((one**2).sum(1).mean()) for one in scaled]
    inputs, targets = np.concatenate(scaled, axis=1), np.eye(3)[LABELS]
    scale = (inputs**2).sum() / 42
    for penalty, share in zip(PENALTIES, found.path, strict=True):
        hits = []
        for left in range(42):
            rest = np.arange(42) != left
            mean, centre = inputs[rest].mean(0), targets[rest].mean(0)
            near = inputs[rest] - mean
            weights = np.linalg.solve(
                near.T @ near + penalty * scale * np.eye(near.shape[1]),
                near.T @ (targets[rest] - centre),
            )
            hits.append(((inputs[left] - mean) @ weights + centre).argmax() == LABELS[left])
        assert 100 * share == pytest.approx(100 * np.mean(hits))
    assert found.hits.mean() in found.path
    assert 0 < found.losses.mean() < np.log(3)


def test_the_kernel_head_is_refitted_without_each_image() -> None:
    """By the dual problem with a bias, of the kernel as it is: neither centred nor scaled."""
    inputs, targets = features(5), np.eye(3)[LABELS]
    found = ridge_left_out(gaussian_gram(inputs), LABELS, 3)
    squares = cdist(inputs, inputs) ** 2
    kernel = np.exp(-squares / np.median(squares[np.triu_indices(42, 1)]))
    # The mean squared norm of the implicit features around their mean, the unit of penalties.
    scale = 1 - kernel.mean()
    scores = {}
    for penalty, share in zip(PENALTIES, found.path, strict=True):
        scores[penalty] = np.zeros((42, 3))
        for left in range(42):
            rest = np.flatnonzero(np.arange(42) != left)
            ones = np.ones((41, 1))
            system = np.block(
                [[kernel[np.ix_(rest, rest)] + penalty * scale * np.eye(41), ones], [ones.T, 0]]
            )
            solved = np.linalg.solve(system, np.concatenate([targets[rest], np.zeros((1, 3))]))
            scores[penalty][left] = np.append(kernel[left, rest], 1) @ solved
        assert 100 * share == pytest.approx(100 * (scores[penalty].argmax(1) == LABELS).mean())
    best = min(scores.values(), key=lambda one: ((one - targets) ** 2).sum())
    np.testing.assert_array_equal(found.hits, best.argmax(1) == LABELS)
