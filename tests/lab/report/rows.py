"""Rows as written by tasks, with made-up numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rtl_jax.lab import results
from rtl_jax.lab.config import FIRST_SEED, Experiment, Source, Target
from rtl_jax.train.recipe import Recipe

NATURAL = "checkpoints/resnet50-19c8e357.pth"
L2 = "checkpoints/imagenet_l2_3_0.pt"


def seed(index: int) -> int:
    return FIRST_SEED + 100_000 * index


def finetuning(
    accuracies: Mapping[int, float],
    *,
    source: str = NATURAL,
    dataset: str = "tfds:svhn_cropped",
    size: int = 100,
    blocks: int | None = 3,
    seed: int = FIRST_SEED,
    settings: Mapping[str, Any] | None = None,
    **columns: Any,
) -> list[dict[str, Any]]:
    """Make the rows of a run from accuracies in percent by epoch, the last one being final."""
    experiment = Experiment(
        source=Source(source),
        target=Target(dataset, num_images=size),
        transfer=Recipe(blocks=blocks, **(settings or {})),
        seed=seed,
    )
    name = f"{source} {dataset} {size} {blocks} {seed} {settings}"
    known = {
        "run": name,
        "method": "transfer",
        "num_images": size,
        "blocks": blocks,
        "epochs": max(accuracies),
        "num_classes": 10,
        "num_test_images": 1000,
        "num_devices": 1,
    }
    return [
        results.row(experiment, **{**known, "epoch": epoch, "accuracy": accuracy, **columns})
        for epoch, accuracy in accuracies.items()
    ]


def cell(accuracies: Sequence[float], **place: Any) -> list[dict[str, Any]]:
    """Make a run of one epoch for each accuracy, with successive seeds."""
    return [
        row
        for index, accuracy in enumerate(accuracies)
        for row in finetuning({1: accuracy}, seed=seed(index), **place)
    ]


def other(task: str, **columns: Any) -> dict[str, Any]:
    """Make a row of a task other than fine-tuning."""
    known = {"run": f"{task} {columns}", "num_classes": 10, "num_test_images": 500}
    source = Source(columns.pop("source", NATURAL))
    experiment = Experiment(task=task, source=source)  # type: ignore[arg-type]
    return results.row(experiment, **{**known, "num_devices": 1, **columns})


def frame(*groups: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return results.frame([row for group in groups for row in group])
