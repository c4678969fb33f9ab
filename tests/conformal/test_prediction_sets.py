"""Prediction sets compared with the papers' definitions, and their coverage."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from rtl_jax.conformal import Conformal, Score, cross_sets
from rtl_jax.errors import UserError

CLASSES = 5


def drawn(number: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw probabilities of a highly overconfident network, labels and uniform numbers.

    Class 0 is rare, and the network predicts it less well.
    """
    logits = draw.normal(0, 1.5, (number, CLASSES)) - 1.5 * (np.arange(CLASSES) == 0)
    labels = (softmax(logits, axis=1).cumsum(1) < draw.random((number, 1))).sum(1)
    seen = 3 * logits - 2.0 * (np.arange(CLASSES) == 0)
    return softmax(seen, axis=1), labels.clip(0, CLASSES - 1), draw.random(number)


def romano_set(p: np.ndarray, u: float, tau: float) -> set[int]:
    """Compute S(x, u; pi, tau) of Romano et al. (2020), equations 4 to 6."""
    order = sorted(range(len(p)), key=lambda y: -p[y])
    total, size = 0.0, 0
    while size < len(p) and total < tau:
        total += p[order[size]]
        size += 1
    if total < tau:
        return set(order)
    excess = (total - tau) / p[order[size - 1]]
    return set(order[: size - 1] if u <= excess else order[:size])


def raps_set(p: np.ndarray, u: float, tau: float, score: Score) -> set[int]:
    """Compute C*(x, u, tau) of Angelopoulos et al. (2021), equation 4, without ties."""
    found = set()
    for y in range(len(p)):
        rho = sum(p[other] for other in range(len(p)) if p[other] > p[y])
        rank = sum(p[other] >= p[y] for other in range(len(p)))
        if rho + p[y] * u + score.penalty * max(rank - score.free, 0) <= tau:
            found.add(y)
    return found


@pytest.mark.parametrize("tau", [0.05, 0.3, 0.6, 0.8, 0.95, 0.999])
def test_scores_are_those_of_the_papers(tau: float) -> None:
    draw = np.random.default_rng(0)
    probabilities, u = softmax(draw.normal(0, 2, (40, CLASSES)), axis=1), draw.random(40)
    aps, raps = Score("aps"), Score("raps", penalty=0.07, free=2)
    found = aps.of(probabilities, u) < tau, raps.of(probabilities, u) <= tau
    for index, (p, one) in enumerate(zip(probabilities, u, strict=True)):
        # Their u leaves the last class out where it is small, ours where it is large.
        assert set(np.flatnonzero(found[0][index])) == romano_set(p, 1 - one, tau)
        assert set(np.flatnonzero(found[1][index])) == raps_set(p, one, tau, raps)
    whole = Score("aps", randomised=False).of(probabilities)
    np.testing.assert_allclose(whole, aps.of(probabilities, np.ones(40)))
    np.testing.assert_array_equal(Score("lac").of(probabilities), 1 - probabilities)


@pytest.mark.parametrize("coverage", [0.07, 0.5, 0.9, 0.93, 0.99, 0.999])
@pytest.mark.parametrize("number", [1, 9, 99, 100])
def test_the_quantile_is_of_finite_samples(coverage: float, number: int) -> None:
    draw = np.random.default_rng(number)
    probabilities, labels, _ = drawn(number, draw)
    held_out = Conformal.fit(probabilities, labels)
    new, *_ = drawn(50, draw)
    # ceil((1 - alpha)(n + 1)) in whole numbers.
    rank = -(-(round(1000 * coverage) * (number + 1)) // 1000)
    quantile = np.sort(held_out.scores)[rank - 1] if rank <= number else math.inf
    np.testing.assert_array_equal(held_out.sets(new, coverage), 1 - new <= quantile)


SCORES = [Score("lac"), Score("aps"), Score("raps"), Score("aps", randomised=False)]


def covered(
    score: Score, number: int, coverage: float, by_class: bool, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels of held-out and 500 new images, and which of the new sets contain theirs."""
    probabilities, labels, u = drawn(number, draw)
    new, truth, v = drawn(500, draw)
    held_out = Conformal.fit(probabilities, labels, score, u if score.draws else None)
    sets = held_out.sets(new, coverage, by_class=by_class, uniforms=v if score.draws else None)
    return labels, truth, sets[np.arange(500), truth]


@pytest.mark.parametrize("score", SCORES[:3], ids=lambda one: one.kind)
def test_coverage_is_as_promised(score: Score) -> None:
    """Over 200 draws of 500 new images, hits are distributed as the quantile implies.

    For continuous scores, the coverage given n held-out images has the distribution Beta(k, n + 1 -
    k), k = ceil((1 - alpha)(n + 1)), so that hits are beta-binomial.
    """
    draw, n, k = np.random.default_rng(1), 79, 72
    hits = np.array([covered(score, n, 0.9, False, draw)[2].sum() for _ in range(200)])
    law = stats.betabinom(500, k, n + 1 - k)
    assert abs(hits.mean() - law.mean()) < 4 * law.std() / math.sqrt(200)
    spread = law.cdf(hits - 1) + draw.random(200) * law.pmf(hits)  # uniform by that law
    assert stats.kstest(spread, "uniform").pvalue > 0.001
    assert law.mean() / 500 >= 0.9


def test_coverage_of_each_class() -> None:
    """Marginal sets miss the rare class; sets by class cover it."""
    draw, shares = np.random.default_rng(2), {}
    for by_class in (False, True):
        outcomes, expected = [], []
        for _ in range(200):
            labels, truth, hits = covered(Score("lac"), 600, 0.9, by_class, draw)
            n = int((labels == 0).sum())
            k = n + 1 - math.floor(0.1 * (n + 1) + 1e-9)
            outcomes.append([hits[truth == 0].sum(), (truth == 0).sum()])
            expected.append(min(k / (n + 1), 1))
        right, number = np.sum(outcomes, axis=0)
        shares[by_class] = right / number, np.mean(expected)
    assert shares[False][0] < 0.75
    found, promised = shares[True]
    # A draw's coverage of a class of about 40 images spreads by 0.05, and its 35 new images by so
    # much again.
    assert 0.9 <= promised < 0.93 and abs(found - promised) < 4 * 0.07 / math.sqrt(200)


@pytest.mark.parametrize("score", [SCORES[0], SCORES[3]], ids=["lac", "aps whole"])
def test_more_is_covered_without_randomisation_and_with_the_first_class(score: Score) -> None:
    draw = np.random.default_rng(3)
    probabilities, labels, _ = drawn(500, draw)
    new, truth, _ = drawn(4000, draw)
    held_out = Conformal.fit(probabilities, labels, score)
    sets, filled = held_out.sets(new, 0.7), held_out.sets(new, 0.7, nonempty=True)
    assert (filled >= sets).all() and filled[np.arange(4000), new.argmax(1)].all()
    assert filled[np.arange(4000), truth].mean() >= sets[np.arange(4000), truth].mean() > 0.65


def test_folds_are_counted_together() -> None:
    """CV+ by its definition: #{i : E_i < E_k(i)(x, y)} < (1 - alpha)(n + 1)."""
    draw = np.random.default_rng(4)
    folds, scored = [], []
    for _ in range(3):
        probabilities, labels, u = drawn(11, draw)
        folds.append(Conformal.fit(probabilities, labels, Score("aps"), u))
        scored.append(folds[-1].scores)
    new = np.stack([drawn(20, draw)[0] for _ in range(3)])
    v = draw.random(20)
    for by_class in (False, True):
        found = cross_sets(folds, new, 0.9, by_class=by_class, uniforms=v)
        for x in range(20):
            for y in range(CLASSES):
                below = count = 0
                for k, fold in enumerate(folds):
                    e = Score("aps").of(new[k], v)[x, y]
                    for each, label in zip(fold.scores, fold.labels, strict=True):
                        if not by_class or label == y:
                            count += 1
                            below += each < e
                assert found[x, y] == (10 * below < 9 * (count + 1))


def test_too_few_images_name_every_class() -> None:
    probabilities, labels, _ = drawn(8, np.random.default_rng(5))
    new, *_ = drawn(30, np.random.default_rng(6))
    assert Conformal.fit(probabilities, labels).sets(new, 0.9).all()  # 9 would do
    none = Conformal.fit(probabilities[:0], labels[:0])
    assert none.sets(new, 0.01).all()
    # Of a class that has too few, that class alone is in every set.
    few = Conformal.fit(np.full((60, 2), [1.0, 0.0]), np.arange(60) // 58)
    sets = few.sets(np.full((4, 2), [0.0, 1.0]), 0.9, by_class=True)
    assert sets.tolist() == [[False, True]] * 4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda one: one.sets(np.eye(2), 1.0), "coverage: expected .* between 0 and 1"),
        (lambda one: one.sets(np.eye(2), 0), "coverage"),
        (lambda one: one.sets(np.eye(2), float("nan")), "coverage"),
        (lambda one: one.sets(np.eye(2)[0], 0.9), "expected probabilities"),
        (lambda one: one.sets(np.full((2, 2), np.nan), 0.9), "between 0 and 1"),
        (lambda one: Conformal.fit(np.eye(2), [0, 2]), "a class from 0 to 1"),
        (lambda one: Conformal.fit(np.eye(2), [0]), "a class from 0 to 1"),
        (lambda one: Conformal.fit(np.eye(2), [0, 1], Score("aps")), "a uniform number"),
        (lambda one: cross_sets([one, one], np.eye(2)[None], 0.9), "2 folds"),
        (lambda one: cross_sets([], np.empty((0, 2, 2)), 0.9), "0 folds"),
        (lambda one: Score("thr"), "one of 'lac'"),
        (lambda one: Score("raps", penalty=-1), "penalty"),
    ],
)
def test_what_cannot_be_is_said(call, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call(Conformal.fit(np.eye(2), [0, 1]))
