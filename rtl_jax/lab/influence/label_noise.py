"""Label noise: labels flipped on purpose, to measure how many of them a ranking finds."""

import random

import numpy as np


def flip_labels(
    labels: np.ndarray, share: float, num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Replace a `share` of labels by other classes; return the labels and which, bool [N].

    Images and new classes are drawn uniformly by `seed`; at least one label is flipped.
    """
    draw = random.Random(seed)
    flipped = np.zeros(len(labels), bool)
    flipped[draw.sample(range(len(labels)), max(1, round(share * len(labels))))] = True
    shifts = np.array([draw.randrange(1, num_classes) for _ in range(len(labels))])
    return np.where(flipped, (labels + shifts) % num_classes, labels).astype(labels.dtype), flipped


def recall(flipped: np.ndarray, ranking: np.ndarray, inspected: float) -> float:
    """Return the percentage of flipped labels in the first `inspected` percent of a ranking [N]."""
    first = ranking[: round(len(ranking) * inspected / 100)]
    return 100 * int(flipped[first].sum()) / int(flipped.sum())
