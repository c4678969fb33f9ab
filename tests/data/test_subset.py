"""The authors' rule compared with another transcription, hand-made cases and published streams."""

import random

import numpy as np
import pytest

from rtl_jax.data import draw_subset, draw_test_subset, seed_for
from rtl_jax.errors import UserError


def authors_rule(labels: list[int], num_images: int, seed: int) -> list[int]:
    """Apply the rule like the paper's code, with the global generator and a set of found labels."""
    indices = [i for i in range(len(labels))]
    random.seed(seed)
    random.shuffle(indices)
    num_labels = len(set(labels))
    found: set[int] = set()
    subset: list[int] = []
    while len(subset) < num_images:
        index = indices.pop(0)
        remaining = num_images - len(subset)
        if labels[index] not in found or remaining > num_labels - len(found):
            subset.append(index)
            found.add(labels[index])
    return subset


@pytest.mark.parametrize("seed", [0, 1, 20_000_000, 20_900_000])
@pytest.mark.parametrize(
    ("classes", "count"), [(10, 10), (10, 11), (10, 100), (100, 130), (3, 500)]
)
def test_equals_the_second_transcription(seed, classes, count):
    labels = np.random.default_rng(seed).permutation(np.arange(500) % classes)
    drawn = draw_subset(labels.astype(np.int32), count, seed, classes)
    assert drawn.dtype == np.int64
    assert drawn.tolist() == authors_rule(labels.tolist(), count, seed)
    assert len(set(drawn.tolist())) == count
    assert set(labels[drawn]) == set(range(classes))


def test_a_draw_worked_by_hand(monkeypatch):
    # Order 3, 0, 1, 4, 2 with labels a b a b c (0 1 0 1 2), three places:
    # 3 is b (unseen: taken), 0 is a (unseen: taken), 1 is b and 4 is b: one place remains for
    # c alone, so both are passed over; 2 is c: taken.
    monkeypatch.setattr(
        random.Random, "shuffle", lambda self, x: x.__setitem__(slice(None), [3, 0, 1, 4, 2])
    )
    assert draw_subset([0, 1, 2, 1, 1], 3, 0, 3).tolist() == [3, 0, 2]
    # With four places there is one to spare: 1 is taken, then 4 is passed over.
    assert draw_subset([0, 1, 2, 1, 1], 4, 0, 3).tolist() == [3, 0, 1, 2]


def test_the_stream_is_pythons_mersenne_twister():
    # CPython 3's random.seed(20000000); random.shuffle(list(range(10))). Never to be updated.
    assert draw_subset([0, 1] * 5, 10, 20_000_000, 2).tolist() == [6, 7, 2, 3, 5, 8, 1, 9, 4, 0]


def test_the_global_generator_is_left_alone():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    draw_subset([0, 1] * 10, 4, 1, 2)
    assert random.random() == expected


def test_none_is_everything_in_order():
    assert draw_subset([1, 0, 1], None, 0, 2).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("count", "classes", "match"),
    [
        (2, 3, "expected 3 or more, one image for each label.* received 2"),
        (7, 3, "expected at most 6, the number of training images, received 7"),
        (5, 4, r"labels \[3\]"),
        (None, 4, r"\[3\]"),
    ],
)
def test_impossible_subsets_are_refused(count, classes, match):
    with pytest.raises(UserError, match=match):
        draw_subset([0, 1, 2, 0, 1, 2], count, 0, classes)


def test_seeds_of_the_paper():
    assert [seed_for(i) for i in (0, 1, 9)] == [20_000_000, 20_100_000, 20_900_000]


@pytest.mark.parametrize("count", [1, 7, 10, 99, 100])
def test_test_subset_keeps_the_proportions(count):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 30, 20]))
    drawn = draw_test_subset(labels, count, 3)
    assert drawn.tolist() == sorted(set(drawn.tolist())) and len(drawn) == count
    shares = np.array([0.5, 0.3, 0.2]) * count
    assert (np.abs(np.bincount(labels[drawn], minlength=3) - shares) < 1).all()
    assert (drawn == draw_test_subset(labels, count, 3)).all()


def test_test_subset_by_hand_and_its_limits():
    # Three of six images, shares 1.5, 1 and 0.5: the remainders tie, so label 0 gets the place.
    assert sorted(np.array([0, 0, 0, 1, 1, 2])[draw_test_subset([0, 0, 0, 1, 1, 2], 3, 3)]) == [
        0,
        0,
        1,
    ]
    assert draw_test_subset([0, 1], None, 2).tolist() == [0, 1]
    for wrong in (0, 3):
        with pytest.raises(UserError, match="1 to 2"):
            draw_test_subset([0, 1], wrong, 2)
