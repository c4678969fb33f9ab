"""Cross-validation: images dealt into folds, every class evenly."""

import random

import numpy as np

from rtl_jax.errors import UserError

# Any constant would do. It is not a setting, so that all runs of a data set share its folds.
FOLD_SEED = 30_000_000


def deal(labels: np.ndarray, folds: int, same: np.ndarray | None = None) -> np.ndarray:
    """The fold of each image, int64 [N] in 0 .. folds - 1.

    Every class is shuffled and dealt out in turn, one class after the other: sizes of folds differ
    by at most one, and so do those of a class in them. An image that shows the same as an earlier
    one goes to the fold of the first of them, so that none is tested that also trains.

    Args:
        labels: int [N]; they alone decide where no two images are the same.
        folds: how many.
        same: int [N], equal for images that show the same (see `leaks.same_images`); None: all
            are different.

    Raises UserError where a class has one image alone, which cannot both train and be tested, and
    where a fold is left without images.
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
                "target.folds: expected two images or more of each class that show something else, "
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
