"""Stratified folds for cross-validation."""

import random

import numpy as np

from rtl_jax.errors import UserError

# An arbitrary constant, not a setting, so that all runs on a dataset share its folds.
FOLD_SEED = 30_000_000


def deal(labels: np.ndarray, folds: int, same: np.ndarray | None = None) -> np.ndarray:
    """Assign each image to a fold, int64 [N] in 0 .. folds - 1.

    Classes are shuffled and dealt out one after another, so that the sizes of folds, and of each
    class in them, differ by at most one. Duplicates of an image go to the fold of the first of
    them, so that no image is in both training and test sets.

    Args:
        labels: int [N]; without duplicates, the folds depend only on them.
        folds: the number of folds.
        same: int [N], equal for duplicates (see `leaks.same_images`); None: there are none.

    Raises UserError if a class has a single image, which cannot both train and be tested, or if a
    fold has no images.
    """
    labels = np.asarray(labels)
    first = np.arange(len(labels))
    if same is not None:
        _, firsts, groups = np.unique(same, return_index=True, return_inverse=True)
        first = firsts[groups]
    found = np.empty(len(labels), np.int64)
    turn = 0
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label).tolist()
        if len(set(first[members].tolist())) < 2:
            raise UserError(
                "target.folds: expected at least two different images of each class, "
                f"and the label {label} has one: add images or leave the class out with "
                "target.classes"
            )
        random.Random(FOLD_SEED + int(label)).shuffle(members)
        found[members] = (turn + np.arange(len(members))) % folds
        turn += len(members)
    dealt = found[first]
    if empty := sorted(set(found.tolist()) - set(dealt.tolist())):
        raise UserError(
            f"target.folds: expected {folds} or more images that differ, and so many are the same "
            f"that fold {empty[0]} has none: remove duplicates, or ask for fewer folds"
        )
    return dealt
