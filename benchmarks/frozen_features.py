"""What simulations on a source's frozen features share: data, features and the command line."""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import rtl_jax as rtl
from rtl_jax.data import load_dataset

MOST_IMAGES = 2000


class Frozen(NamedTuple):
    """Features, float64 [N, d], of at most `MOST_IMAGES` training images, and int labels [N]."""

    features: np.ndarray
    labels: np.ndarray
    num_classes: int

    @classmethod
    def of(cls, target: str, source: str) -> "Frozen":
        """Compute the features of a random part of a target's training images."""
        dataset = load_dataset(target, data_dir=None, image_size=32)
        rows = np.random.default_rng(0).permutation(len(dataset.train.labels))[:MOST_IMAGES]
        images = dataset.train.take(np.sort(rows))
        features = rtl.load(source).features(images.images).astype(np.float64)
        return cls(features, images.labels, dataset.num_classes)


def main(description: str, measure: Callable[[Frozen, int], dict[str, Any]]) -> None:
    """Call `measure` with every target's features and the number of seeds, and print JSON."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--targets", default="digits")
    parser.add_argument("--source", default="bundled:l2")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    began = time.process_time()
    found = {
        target: measure(Frozen.of(target, arguments.source), arguments.seeds)
        for target in arguments.targets.split(",")
    }
    print(json.dumps({**found, "cpu seconds": round(time.process_time() - began)}, indent=2))
