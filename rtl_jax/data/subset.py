"""Training subsets drawn by the authors' rule, and a fixed test subset."""

import random
from collections.abc import Sequence

import numpy as np

from rtl_jax.errors import UserError

# An arbitrary constant, not a setting, so that all runs share one test subset.
TEST_SEED = 10_000_000


def seed_for(index: int) -> int:
    """Return the seed of the authors' `index`-th repetition: 20000000 + 100000 * index.

    Example:
        >>> seed_for(3)
        20300000
    """
    return 20_000_000 + 100_000 * index


def draw_subset(
    labels: np.ndarray | Sequence[int], num_images: int | None, seed: int, num_classes: int
) -> np.ndarray:
    """Draw training indices by the authors' rule; the same seed and labels give the same indices.

    All indices are shuffled by Python's Mersenne Twister. Going through them in order, an index is
    taken if more places remain than labels are still unseen, or if its label is unseen, so every
    label has at least one image.

    Args:
        labels: int [N], each in 0 .. num_classes - 1.
        num_images: the number to draw, or None for all N, in their own order.
        seed: the seed of the shuffle; see `seed_for`.
        num_classes: the number of labels that must each appear.

    Returns:
        Indices, int64 [num_images], in the order drawn.

    Raises:
        UserError: if fewer images are requested than there are labels, or more than there are
            images, or a label has no image.

    Example:
        >>> rows = draw_subset([0, 1, 0, 1, 0, 1], 4, seed_for(0), 2)
        >>> rows.shape, rows.dtype
        ((4,), dtype('int64'))
    """
    sequence = np.asarray(labels).tolist()
    total = len(sequence)
    unseen = set(range(num_classes))
    if missing := sorted(unseen.difference(sequence)):
        raise UserError(f"no image has the labels {missing[:10]} of 0..{num_classes - 1}")
    if num_images is None:
        return np.arange(total, dtype=np.int64)
    if num_images < num_classes:
        raise UserError(
            f"num_images: expected {num_classes} or more, one image for each label, "
            f"received {num_images}"
        )
    if num_images > total:
        raise UserError(
            f"num_images: expected at most {total}, the number of training images, "
            f"received {num_images}"
        )
    order = list(range(total))
    random.Random(seed).shuffle(order)
    chosen: list[int] = []
    for index in order:
        label = sequence[index]
        if num_images - len(chosen) > len(unseen) or label in unseen:
            chosen.append(index)
            unseen.discard(label)
        if len(chosen) == num_images:
            break
    return np.array(chosen, dtype=np.int64)


def draw_test_subset(
    labels: np.ndarray | Sequence[int], num_images: int | None, num_classes: int
) -> np.ndarray:
    """Draw a fixed random part of a test set, stratified by class.

    It depends only on the labels and `num_images`, so every run is tested on the same images. Each
    class gets its share rounded down; the remaining places go to the largest remainders, the lower
    label first.

    Args:
        labels: int [N], each in 0 .. num_classes - 1.
        num_images: the number to draw, or None for all N.
        num_classes: the number of classes.

    Returns:
        Indices, int64 [num_images], ascending.

    Raises:
        UserError: if `num_images` is below one or above N.

    Example:
        >>> draw_test_subset([0, 0, 0, 0, 1, 1], 3, 2).shape
        (3,)
    """
    labels = np.asarray(labels)
    total = len(labels)
    if num_images is None:
        return np.arange(total, dtype=np.int64)
    if not 1 <= num_images <= total:
        raise UserError(
            f"expected 1 to {total} test images, as many as the test set has, received {num_images}"
        )
    counts = np.bincount(labels, minlength=num_classes)
    # Integer arithmetic, so that the draw does not depend on rounding.
    quotas, remainders = np.divmod(counts * num_images, total)
    left = num_images - int(quotas.sum())
    quotas[np.argsort(-remainders, kind="stable")[:left]] += 1
    chosen = []
    for label, quota in enumerate(quotas.tolist()):
        members = np.flatnonzero(labels == label).tolist()
        random.Random(TEST_SEED + label).shuffle(members)
        chosen += members[:quota]
    return np.sort(np.array(chosen, dtype=np.int64))
