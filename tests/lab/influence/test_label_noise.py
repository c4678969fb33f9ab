"""Label noise, and how many wrong labels are found."""

import numpy as np

from rtl_jax.lab.influence.label_noise import flip_labels, recall


def test_a_share_of_labels_becomes_another_class():
    labels = np.random.default_rng(0).integers(0, 4, 2000).astype(np.int32)
    wrong, flipped = flip_labels(labels, 0.1, 4, seed=1)
    assert flipped.sum() == 200 and wrong.dtype == np.int32
    assert (wrong[flipped] != labels[flipped]).all() and (wrong[~flipped] == labels[~flipped]).all()
    changes = np.bincount((wrong - labels)[flipped] % 4, minlength=4)
    assert changes[0] == 0 and changes[1:].min() > 40  # every other class, about as often
    again, _ = flip_labels(labels, 0.1, 4, seed=1)
    other, _ = flip_labels(labels, 0.1, 4, seed=2)
    assert (again == wrong).all() and (other != wrong).any()


def test_recall_counts_those_among_the_first():
    flipped = np.array([True, False, True, False, False, False, False, False, True, False])
    ranking = np.array([2, 1, 0, 3, 4, 5, 6, 7, 9, 8])
    assert recall(flipped, ranking, 10) == 100 / 3
    assert recall(flipped, ranking, 30) == 200 / 3
    assert recall(flipped, ranking, 90) == 200 / 3
    assert recall(flipped, ranking, 100) == 100
