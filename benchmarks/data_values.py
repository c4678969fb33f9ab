"""Do data values find wrong labels, and does a head gain without the images of least value?

    python -m benchmarks.data_values --targets digits,tfds:fashion_mnist

A simulation on frozen features. 40 of 400 training images are given the label of another class;
200 held-out images and 500 test images have the right ones. Each method values the training images
by the held-out ones. Two results are printed: the area under the ROC curve with which low values
find the wrong labels, and the change in test accuracy (points) when a ridge head is fitted again
without the 40 images of least value. Each seed draws all images anew; changes are paired by seed.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.frozen_features import Frozen, main
from rtl_jax.influence_functions import knn_shapley, ridge_semivalues, ridge_values
from rtl_jax.lab.statistics import mean_interval
from rtl_jax.train.heads.fit import FittedHead, fit_heads

TRAINING, WRONG, HELD_OUT, TEST = 400, 40, 200, 500


def methods(l2: float, seed: int) -> dict[str, Callable[..., np.ndarray]]:
    """Values [n] by name, as functions of training and held-out features and labels."""
    return {
        "chance": lambda *arrays: np.random.default_rng(seed).uniform(size=TRAINING),
        "leave-one-out": lambda *arrays: ridge_values(*arrays, l2),
        "Shapley": lambda *arrays: ridge_semivalues(*arrays, l2, seed=seed).values,
        "Banzhaf": lambda *arrays: ridge_semivalues(*arrays, l2, kind="banzhaf", seed=seed).values,
        "Shapley, 5 nearest neighbours": lambda *arrays: knn_shapley(*arrays, k=5),
    }


def fit(split: list[np.ndarray], rows: np.ndarray, num_classes: int) -> tuple[FittedHead, float]:
    """Fit a ridge head to `rows` of the training images; return it and its test accuracy (%)."""
    features, labels, *_, tested, wanted = split
    (head,) = fit_heads("ridge", [features[rows]], [labels[rows]], num_classes)
    return head, 100 * ((tested @ head.kernel + head.bias).argmax(1) == wanted).mean()


def measure(frozen: Frozen, seeds: int) -> dict[str, Any]:
    """Mean areas, accuracies and seconds by method, with 95 % margins."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        order = draw.permutation(len(frozen.labels))[: TRAINING + HELD_OUT + TEST]
        split = [
            part
            for rows in np.split(order, [TRAINING, TRAINING + HELD_OUT])
            for part in (frozen.features[rows], frozen.labels[rows])
        ]
        wrong = np.arange(TRAINING) < WRONG  # the order is random already
        shift = draw.integers(1, frozen.num_classes, WRONG)
        split[1][:WRONG] = (split[1][:WRONG] + shift) % frozen.num_classes
        head, whole = fit(split, np.arange(TRAINING), frozen.num_classes)
        for name, method in methods(head.record["l2"], seed).items():
            began = time.perf_counter()
            values = method(*split[:4])
            seconds = time.perf_counter() - began
            rest = np.sort(np.argsort(values)[WRONG:])
            gained = fit(split, rest, frozen.num_classes)[1] - whole
            row = {
                "area": roc_auc_score(wrong, -values),
                "gained": gained,
                "seconds": seconds,
            }
            for key, value in row.items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
        found.setdefault("all images", {}).setdefault("accuracy", []).append(whole)
    return {
        name: {key: mean_interval(np.array(values)) for key, values in one.items()}
        for name, one in found.items()
    }


if __name__ == "__main__":
    main(__doc__, measure)
