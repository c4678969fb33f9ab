"""Combined held-out results of a comparison: choice, unbiased accuracy, confusions."""

import numpy as np
import pytest

from rtl_jax.conformal import Conformal, Score
from rtl_jax.conformal.draws import uniforms_of
from rtl_jax.lab.my_images.accuracy import Accuracy, Measurement
from rtl_jax.lab.my_images.choice import best_of_kinds, choose, honest_hits
from rtl_jax.lab.my_images.forecast import batches
from rtl_jax.lab.my_images.guarantees import COVERAGES, held_out_coverage
from rtl_jax.lab.my_images.held_out import Candidate, HeldOut, confidently_wrong, confusion
from rtl_jax.lab.predict.calibration import fit_temperature
from rtl_jax.lab.report.elements import Point
from rtl_jax.lab.report.learning_curve import LearningCurve

DRAW = np.random.default_rng(0)
LABELS = np.arange(40) % 4
FOLDS = np.arange(40) // 4 % 5  # two images of each class in each


def candidate(source: str, blocks: int, right: np.ndarray, seeds: int = 1, **training) -> HeldOut:
    """Make a candidate that is right on the images at `right` and wrong on the others."""
    named = np.where(right, LABELS, (LABELS + 1) % 4)
    logits = np.eye(4)[named] * DRAW.uniform(1, 3, (seeds, 40, 1))
    return HeldOut(Candidate(source, blocks, **training), LABELS, FOLDS, logits)


def test_the_simplest_within_the_margin_is_chosen() -> None:
    rank = np.arange(40)
    several = [
        candidate("a", 1, rank < 30),  # 75 %
        candidate("a", 0, rank < 28),  # 70 %
        candidate("b", 0, rank < 29),  # 72.5 %
    ]
    assert [each.accuracy for each in several] == pytest.approx([75, 70, 72.5])
    assert choose(several, 0) is several[0]
    assert choose(several, 2.5) is several[2]
    assert choose(several, 5) is several[1]


def test_heads_rates_and_epochs_are_chosen_by_accuracy_alone() -> None:
    """The best candidate of the simplest source and blocks within the margin, not the first one."""
    rank = np.arange(40)
    several = [
        candidate("a", 0, rank < 29, head_fit="ridge"),  # 72.5 %
        candidate("a", 0, rank < 30, learning_rate=0.1, epochs=1),  # 75 %
        candidate("a", 0, rank < 28, learning_rate=0.1, epochs=9),  # 70 %
        candidate("b", 0, rank < 31, head_fit="ridge"),  # 77.5 %
        candidate("a", 1, rank < 32, learning_rate=0.1, epochs=9),  # 80 %
    ]
    assert [choose(several, margin) for margin in (0, 2.5, 5, 7.5)] == [
        several[4], several[3], several[1], several[1]
    ]  # fmt: skip
    assert best_of_kinds(several) == [several[0], several[1], several[3], several[4]]
    # Fold by fold, by the definition: the other folds' best of the simplest group.
    expected = np.empty(40)
    for fold in range(5):
        inside = fold == FOLDS
        means = [100 * each.hits[~inside].mean() for each in several]
        near = min((each.blocks, each.source) for each, mean in zip(several, means, strict=True)
                   if mean >= max(means) - 5)  # fmt: skip
        group = [i for i, each in enumerate(several) if (each.blocks, each.source) == near]
        expected[inside] = several[max(group, key=lambda i: means[i])].hits[inside]
    np.testing.assert_array_equal(honest_hits(several, 5), expected)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"head_fit": "ridge"}, "s, 0 blocks, ridge head"),
        ({"learning_rate": 0.3, "epochs": 1}, "s, 0 blocks, SGD at 0.3 for 1 epoch"),
    ],
)
def test_candidates_say_how_they_are_trained(training: dict, words: str) -> None:
    assert str(Candidate("s", 0, **training)) == words
    started = Candidate("s", 1, "logistic", 0.03, 20)
    assert str(started) == "s, 1 block, SGD at 0.03 for 20 epochs from a logistic head"


def test_accuracy_of_a_choice_among_noise_is_not_flattered() -> None:
    """For candidates that guess, the best one looks good but is not."""
    draw = np.random.default_rng(1)
    flattered, honest = [], []
    for _ in range(200):
        several = [candidate(str(index), 0, draw.random(40) < 0.5) for index in range(8)]
        flattered.append(choose(several, 0).accuracy)
        honest.append(100 * honest_hits(several, 0).mean())
    assert np.mean(flattered) > 58
    assert np.mean(honest) == pytest.approx(50, abs=2)


def test_each_fold_is_told_by_what_the_others_choose() -> None:
    several = [candidate(str(index), index % 2, DRAW.random(40) < 0.6) for index in range(5)]
    expected = np.empty(40)
    for fold in range(5):
        inside = fold == FOLDS
        accuracy = [each.hits[~inside].mean() for each in several]
        best = max(accuracy)
        allowed = [i for i in range(5) if accuracy[i] >= best - 0.03]
        taken = min(allowed, key=lambda i: (several[i].blocks, i))
        expected[inside] = several[taken].hits[inside]
    np.testing.assert_array_equal(honest_hits(several, 3.0), expected)


def unbalanced(source: str, blocks: int, right: np.ndarray) -> HeldOut:
    """Make results on 95 images of class 0 and 5 of class 1, one of the latter in each fold."""
    labels, folds = np.repeat([0, 1], [95, 5]), np.arange(100) % 5
    named = np.where(right, labels, 1 - labels)
    return HeldOut(Candidate(source, blocks), labels, folds, np.eye(2)[None, named])


def test_a_guess_of_the_largest_class_is_not_chosen() -> None:
    """95 % by guessing, against 90 % with four of the five that matter."""
    guess = unbalanced("guess", 0, np.arange(100) < 95)
    seeing = unbalanced("seeing", 1, (np.arange(100) < 86) | (np.arange(100) > 95))
    assert guess.accuracy == 95 > seeing.accuracy == 90
    assert choose([guess, seeing], 1) is seeing
    np.testing.assert_array_equal(honest_hits([guess, seeing], 1), seeing.hits)


def test_balanced_accuracy_is_scikit_learns() -> None:
    from sklearn.metrics import balanced_accuracy_score

    one = unbalanced("a", 0, DRAW.random(100) < 0.7)
    expected = 100 * balanced_accuracy_score(one.labels, one.logits[0].argmax(1))
    assert one.balanced_accuracy == pytest.approx(expected)
    assert Accuracy.balanced(one.hits, one.labels).percent == pytest.approx(expected)
    assert one.balanced_by_fold.mean() == pytest.approx(expected)
    even = candidate("b", 0, DRAW.random(40) < 0.7)
    assert even.balanced_accuracy == pytest.approx(even.accuracy)
    gaps = HeldOut(Candidate("c", 0), 2 * one.labels, one.folds, one.logits[..., [0, 0, 1]])
    assert gaps.balanced_accuracy == pytest.approx(expected)  # a class without an image is none


def test_the_interval_of_balanced_accuracy_holds_what_is_true() -> None:
    """Also with 5 images of a class. The last two cases are guessing, where 50 % is true."""
    draw, labels = np.random.default_rng(2), np.repeat([0, 1], [95, 5])
    for chances in ([0.9, 0.5], [0.99, 0.9], [0.95, 0.05], [0.8, 0.2]):
        outside = 0
        for _ in range(400):
            found = Accuracy.balanced(draw.random(100) < np.array(chances)[labels], labels)
            outside += not found.low <= 100 * np.mean(chances) <= found.high
        assert outside / 400 < 0.05
    # Clopper and Pearson's are known in closed form where none or all are right.
    found = Accuracy.balanced((labels == 0).astype(float), labels)
    low, high = 100 * 0.025 ** (1 / 95), 100 * (1 - 0.025 ** (1 / 5))
    assert found == Accuracy(
        50, pytest.approx(50 - (100 - low) / 2), pytest.approx(50 + high / 2), 100
    )


@pytest.mark.parametrize(
    ("classes", "images", "chance"), [(50, 2, 0.9), (20, 5, 0.8), (10, 10, 0.9)]
)
def test_the_interval_holds_what_is_true_of_many_classes_with_few_images(
    classes: int, images: int, chance: float
) -> None:
    draw, labels = np.random.default_rng(3), np.repeat(np.arange(classes), images)
    outside = 0
    for _ in range(400):
        found = Accuracy.balanced(draw.random(len(labels)) < chance, labels)
        outside += not found.low <= 100 * chance <= found.high
    assert outside / 400 < 0.05


@pytest.mark.parametrize(
    ("right", "words"),
    [
        ((95, 0), "nor that of balanced accuracy above the 50.0 % of"),  # the largest class, always
        ((93, 1), "nor that of balanced accuracy above the 50.0 % of"),
        ((88, 5), "does lie above the 50.0 % of guessing"),  # below 95 %, and not by guessing
        ((95, 5), None),
    ],
)
def test_guessing_is_called_guessing(right: tuple[int, int], words: str | None) -> None:
    labels = np.repeat([0, 1], [95, 5])
    hits = np.concatenate([np.arange(95) < right[0], np.arange(5) < right[1]]).astype(float)
    found = Measurement.of(hits, labels, ["healthy", "ill"])
    assert found.largest_share == 95
    assert "largest class, healthy, would score 95.0 %" in found.reference()
    verdict = found.verdict()
    if words is None:
        assert verdict is None
        assert found.verdict(Accuracy(99.0, 94.0, 100.0, 100)) is not None
    else:
        assert verdict is not None and words in verdict
        assert verdict.startswith("Nothing better than guessing has been shown")


def test_seeds_share_an_image() -> None:
    one = candidate("a", 0, np.arange(40) < 20, seeds=3)
    logits = one.logits.copy()
    logits[2] = np.eye(4)[LABELS]  # one seed of three is always right
    one = HeldOut(Candidate("a", 0), LABELS, FOLDS, logits)
    assert one.hits[-1] == pytest.approx(1 / 3) and one.accuracy == pytest.approx(100 * 2 / 3)
    every, labels, folds = one.pooled
    assert len(every) == len(labels) == len(folds) == 120
    assert (every[80:].argmax(1) == labels[80:]).all()


def test_the_interval_is_wilsons() -> None:
    """By his formula (1927), for 60 of 80."""
    z, n, p = 1.959964, 80, 0.75
    centre, half = p + z**2 / (2 * n), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    found = Accuracy.of(np.repeat([1.0, 0.0], [60, 20]))
    assert found.percent == 75 and found.images == 80
    assert found.low == pytest.approx(100 * (centre - half) / (1 + z**2 / n), abs=1e-4)
    assert found.high == pytest.approx(100 * (centre + half) / (1 + z**2 / n), abs=1e-4)


def test_more_images_shift_and_widen_the_interval() -> None:
    """From 240 to 300 images is 0.322 doublings."""
    held_out = Accuracy(52.0, 46.0, 58.0, 300)
    points = [Point(120, 45.0), Point(240, 51.0), Point(480, 57.0)]
    found = held_out.with_more(LearningCurve(points, 6.0, 10.0, 0.2), 300)
    share = np.log(300 / 240) / np.log(2)
    half = np.sqrt(6**2 + (10 * share) ** 2)
    assert found.percent == pytest.approx(52 + 6 * share) and found.images == 300
    assert (found.low, found.high) == pytest.approx((found.percent - half, found.percent + half))
    assert held_out.with_more(None, 300) == held_out
    assert Accuracy(99.0, 98.0, 99.9, 9).with_more(LearningCurve(points, 6.0, 9.0, 0.2), 480) == (
        Accuracy(100, pytest.approx(105 - np.hypot(1, 9)), 100, 9)
    )


def test_confusions_and_the_surest_mistakes() -> None:
    one = candidate("a", 0, np.arange(40) >= 10)
    matrix = confusion(one, 4)
    for label in range(4):
        for named in range(4):
            both = (label == LABELS) & (one.logits[0].argmax(1) == named)
            assert matrix[label, named] == both.sum()
    wrong = confidently_wrong(one, 1.0, 40)
    assert sorted(wrong) == list(range(10))
    heights = one.logits[0][wrong].max(1)
    assert (np.diff(heights) <= 0).all()
    assert confidently_wrong(one, 2.0, 3).tolist() == wrong[:3].tolist()


@pytest.mark.parametrize("least", [5, 17, 40, 64, 239, 240, 800, 5000])
def test_training_images_are_whole_batches(least: int) -> None:
    found = batches(least, 32, classes=4)
    assert found.num_images <= least and found.num_images % found.batch_size == 0
    assert found.batch_size <= 32
    assert found.num_images > 0.85 * least or least < 20
    for size in found.smaller:
        assert size % found.batch_size == 0 and 4 <= size < found.num_images


def test_coverage_is_of_folds_that_had_no_say() -> None:
    """Choice, temperature and scores are from the other folds, by definition."""
    rank = np.arange(40)
    several = [candidate("a", 0, rank % 3 > 0), candidate("b", 0, rank % 4 > 0)]
    images = np.random.default_rng(3).integers(0, 256, (40, 2, 2, 1), dtype=np.uint8)
    score, u = Score("aps"), uniforms_of(images)
    expected = dict.fromkeys([(asked, by) for asked in COVERAGES for by in (False, True)], 0)
    for fold in range(5):
        inside = fold == FOLDS
        chosen = choose([HeldOut(each.candidate, LABELS[~inside], FOLDS[~inside],
                                 each.logits[:, ~inside]) for each in several], 0)  # fmt: skip
        temperature = fit_temperature(chosen.logits[0], chosen.labels)
        held_out = Conformal.fit(
            chosen.probabilities(temperature), chosen.labels, score, u[~inside]
        )
        whole = next(each for each in several if each.candidate == chosen.candidate)
        new = whole.probabilities(temperature)[inside]
        for (asked, by), _ in expected.items():
            sets = held_out.sets(new, asked, by_class=by, uniforms=u[inside], nonempty=True)
            expected[asked, by] += sets[np.arange(8), LABELS[inside]].sum()
    found = held_out_coverage(several, 0, score, images)
    assert [(each.asked, each.by_class) for each in found] == list(expected)
    for each, right in zip(found, expected.values(), strict=True):
        assert each.held == Accuracy.counted(right, 40) and 1 <= each.size <= 4
        assert each.least <= each.held.percent
