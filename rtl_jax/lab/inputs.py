"""Loading of a network and a data set from settings."""

import dataclasses
from pathlib import Path

import numpy as np

from rtl_jax.data.corruptions.severities import Corruption
from rtl_jax.data.dataset import Dataset, ImageSet
from rtl_jax.data.folds import deal
from rtl_jax.data.leaks import same_images
from rtl_jax.data.sources import load_dataset
from rtl_jax.data.subset import draw_subset, draw_test_subset
from rtl_jax.data.variants import at_size, corrupted, vary
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Source, Target
from rtl_jax.models.network import Network
from rtl_jax.models.sources import load_source
from rtl_jax.runtime.paths import cache_path


def load_network(source: Source, seed: int = 0) -> Network:
    """Load the network that the group `source` describes; `seed` draws a random one.

    Raises UserError as `load_source` does.
    """
    return load_source(**dataclasses.asdict(source), seed=seed)


def load_target(target: Target, cache_dir: str | Path | None = None) -> Dataset:
    """Load all the images that the group `target` describes; raise UserError as `load_dataset`.

    The run itself draws its subsets from them and corrupts test images (`as_tested`), so that
    images can be recognised by their content until then.
    """
    dataset = load_dataset(
        target.dataset,
        data_dir=target.data_dir,
        cache_dir=cache_dir,
        image_size=target.image_size,
        classes=target.classes,
        test=target.test_dataset,
        test_on_train=target.folds is not None,
    )
    return vary(
        dataset,
        image_size=target.image_size,
        low_resolution=target.low_resolution,
        zeroed_frequencies=target.zeroed_frequencies,
        cache_dir=cache_path(cache_dir),
    )


def as_tested(images: ImageSet, target: Target) -> ImageSet:
    """Return test images with `target.corruption`, at the target's size; unchanged without one."""
    if target.corruption is None:
        return images
    return corrupted(at_size(images, target.image_size), Corruption.parse(target.corruption))


def draw_rows(target: Target, dataset: Dataset, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the indices of a run's training images, in drawn order, and test images, ascending.

    They refer to the data set of `load_target`. In cross-validation, `seed` draws from the images
    outside the fold. Raises UserError as `draw_subset`, `draw_test_subset` and `deal`.
    """
    labels, classes = dataset.train.labels, dataset.num_classes
    every = np.arange(len(labels))
    inside = None if target.fold is None else in_fold(target, dataset.train)
    outside = every if inside is None else every[~inside]
    try:
        train = outside[draw_subset(labels[outside], target.num_images, seed, classes)]
        if inside is not None:
            return train, every[inside]
        return train, draw_test_subset(dataset.test.labels, target.num_test_images, classes)
    except UserError as error:
        raise UserError(f"{dataset.name}: {error}") from error


def in_fold(target: Target, images: ImageSet) -> np.ndarray:
    """Return which images, bool [N], are in the fold `target.fold`; equal images share a fold."""
    assert target.folds is not None
    return deal(images.labels, target.folds, same_images(images)) == target.fold
