"""Wrong labels made on purpose, to see how many of them a ranking finds."""

import random

import numpy as np


def flip_labels(
    labels: np.ndarray, share: float, num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(labels with `share` of them replaced by another class, which ones: bool [N]).

    Images and new classes are drawn uniformly by `seed`; at least one is flipped.
    """
    draw = random.Random(seed)
    flipped = np.zeros(len(labels), bool)
    flipped[draw.sample(range(len(labels)), max(1, round(share * len(labels))))] = True
    shifts = np.array([draw.randrange(1, num_classes) for _ in range(len(labels))])
    return np.where(flipped, (labels + shifts) % num_classes, labels).astype(labels.dtype), flipped


def recall(flipped: np.ndarray, ranking: np.ndarray, inspected: float) -> float:
    """Percent of the flipped that are among the first `inspected` percent of a ranking [N]."""
    first = ranking[: round(len(ranking) * inspected / 100)]
    return 100 * int(flipped[first].sum()) / int(flipped.sum())
