"""Cross-validation: images dealt into folds, every class evenly."""

import random

import numpy as np

from rtl_jax.errors import UserError

# Any constant would do. It is not a setting, so that all runs of a data set share its folds.
FOLD_SEED = 30_000_000


def deal(labels: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each image, int64 [N] in 0 .. folds - 1, by the labels, int [N], alone.

    Every class is shuffled and dealt out in turn, one class after the other: sizes of folds differ
    by at most one, and so do those of a class in them.

    Raises UserError where a class has one image alone, which cannot both train and be tested.
    """
    labels = np.asarray(labels)
    found = np.empty(len(labels), np.int64)
    turn = 0
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label).tolist()
        if len(members) < 2:
            raise UserError(
                f"target.folds: expected two images or more of each class, and the label {label} "
                "has one: add images or leave the class out with target.classes"
            )
        random.Random(FOLD_SEED + int(label)).shuffle(members)
        found[members] = (turn + np.arange(len(members))) % folds
        turn += len(members)
    return found
