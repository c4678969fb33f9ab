"""Active selection of images to label: margin and influence on a held-out loss, against random.

    python -m benchmarks.active_selection --targets digits,tfds:fashion_mnist

A simulation on frozen features: a ridge head on 20 labelled images gains 20 at a time, up to 120,
from a pool of 500, and is evaluated on 500 test images. 'margin' selects the images whose two most
probable classes are closest. 'influence' selects the images whose labels are expected to reduce the
squared error on 100 held-out images most. This is exact, by updating the ridge head with one more
image, in expectation over the head's own probabilities. (Unlike the others, it uses the held-out
labels.) Each seed draws all images anew; differences from random are paired by seed.
"""

from typing import Any

import numpy as np
from scipy import linalg
from scipy.special import softmax

from benchmarks.frozen_features import Frozen, main
from rtl_jax.lab.statistics import mean_interval
from rtl_jax.train.heads.fit import FittedHead, fit_heads

START, STEP, END = 20, 20, 120
POOL, HELD_OUT, TEST = 500, 100, 500


class Split:
    """The features and labels of one seed: a pool, held-out images and test images."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(labels))[: POOL + HELD_OUT + TEST]
        parts = np.split(order, [POOL, POOL + HELD_OUT])
        (self.pool, self.held_out, self.test) = (features[rows] for rows in parts)
        (self.labels, self.held_out_labels, self.test_labels) = (labels[rows] for rows in parts)
        self.draw = np.random.default_rng((seed, 1))

    def choose(self, strategy: str, known: np.ndarray, head: FittedHead) -> np.ndarray:
        """Return the pool indices of the next images to label."""
        rest = np.setdiff1d(np.arange(POOL), known)
        probabilities = softmax(self.pool[rest] @ head.kernel + head.bias, axis=1)
        if strategy == "random":
            worth = self.draw.permutation(len(rest)).astype(float)
        elif strategy == "margin":
            top = np.sort(probabilities, axis=1)
            worth = top[:, -2] - top[:, -1]
        else:
            worth = -self._expected_changes(known, rest, probabilities, head.record["l2"])
        return rest[np.argsort(-worth, kind="stable")[:STEP]]

    def _expected_changes(
        self, known: np.ndarray, rest: np.ndarray, probabilities: np.ndarray, l2: float
    ) -> np.ndarray:
        """Return the change in held-out squared error from labelling each of `rest`.

        The updated weights are W + H^-1 x r / (1 + h).
        """
        classes = np.eye(probabilities.shape[1])
        mean = self.pool[known].mean(0)
        seen, asked, held_out = (
            np.concatenate([one - mean, np.ones((len(one), 1))], 1)
            for one in (self.pool[known], self.pool[rest], self.held_out)
        )
        matrix = seen.T @ seen
        matrix[np.diag_indices(len(matrix) - 1)] += l2
        factor = linalg.cho_factor(matrix)
        weights = linalg.cho_solve(factor, seen.T @ classes[self.labels[known]])
        solved = linalg.cho_solve(factor, asked.T)
        moves = held_out @ solved / (1 + (asked * solved.T).sum(1))  # [held-out, rest]
        errors = classes[self.held_out_labels] - held_out @ weights
        scores, total = asked @ weights, np.zeros(len(rest))
        for label in range(len(classes)):
            residuals = classes[label] - scores
            changes = moves**2 * (residuals**2).sum(1) - 2 * moves * (errors @ residuals.T)
            total += probabilities[:, label] * changes.mean(0)
        return total


def curve(splits: list[Split], strategy: str, num_classes: int) -> np.ndarray:
    """Compute test accuracy (percent) at each number of labelled images, [seeds, sizes]."""
    known, found = [np.arange(START) for _ in splits], []
    for size in range(START, END + 1, STEP):
        features = [split.pool[rows] for split, rows in zip(splits, known, strict=True)]
        labels = [split.labels[rows] for split, rows in zip(splits, known, strict=True)]
        heads = fit_heads("ridge", features, labels, num_classes)
        found.append(
            [
                100 * ((split.test @ head.kernel + head.bias).argmax(1) == split.test_labels).mean()
                for split, head in zip(splits, heads, strict=True)
            ]
        )
        if size < END:
            known = [
                np.concatenate([rows, split.choose(strategy, rows, head)])
                for split, rows, head in zip(splits, known, heads, strict=True)
            ]
    return np.array(found).T


def measure(frozen: Frozen, seeds: int) -> dict[str, Any]:
    """Compute mean accuracies by size, and paired differences from random with 95 % margins."""
    found, random = {}, None
    for strategy in ("random", "margin", "influence"):
        splits = [Split(frozen.features, frozen.labels, seed) for seed in range(seeds)]
        accuracies = curve(splits, strategy, frozen.num_classes)
        random = accuracies if random is None else random
        found[strategy] = {
            "accuracy": accuracies.mean(0).round(1).tolist(),
            "ahead at 60": mean_interval((accuracies - random)[:, (60 - START) // STEP]),
            "ahead at 120": mean_interval((accuracies - random)[:, -1]),
        }
    return found


if __name__ == "__main__":
    main(__doc__, measure)
