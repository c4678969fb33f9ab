"""Training images perturbed to raise the loss of a test image: search, list and figure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.attacks.pgd import PGD
from rtl_jax.data.transforms import prepare_to_attack
from rtl_jax.influence_functions.head import Examples
from rtl_jax.influence_functions.pixels import PixelInfluence
from rtl_jax.influence_functions.solve import Solver
from rtl_jax.lab import config
from rtl_jax.lab.influence.finetuned import Finetuned
from rtl_jax.lab.influence.plots import image, label_lines
from rtl_jax.lab.plotting import save, subplots
from rtl_jax.runtime.paths import complete_or_absent


class PerturbedPairs(NamedTuple):
    """Pairs of a training and a test image, by their rows, each [P].

    originals, images: the training images before and after, float [P, S, S, 3] in [0, 1].
    changes: the predicted changes in the test images' losses (nats).
    """

    train: np.ndarray
    test: np.ndarray
    originals: np.ndarray
    images: np.ndarray
    changes: np.ndarray


def perturb_best(
    one: Finetuned,
    settings: config.Influence,
    solver: Solver,
    test: Examples,
    pairs: tuple[np.ndarray, np.ndarray],
) -> PerturbedPairs:
    """Perturb the training images of `pairs`, rows of training and test images."""
    rows, tests = pairs
    chosen = one.job.training_images.take(rows)
    size = one.job.experiment.target.image_size
    originals = np.asarray(prepare_to_attack(jnp.asarray(chosen.images), size))
    number = len(one.job.train_indices)
    pixels = PixelInfluence(one.network.features_fn(), one.head, solver, number)
    search = PGD("l2", steps=settings.perturb_steps, keep="loss")
    found = pixels.perturb(originals, chosen.labels, test.take(tests), settings.perturb_eps, search)
    return PerturbedPairs(rows, tests, originals, found.images, found.changes)


def write_perturbed(
    path: epath.Path, every: Mapping[str, tuple[Finetuned, PerturbedPairs]]
) -> None:
    """Write a CSV line per source and pair, with images' indices in the data set's halves."""
    parts = []
    for name, (one, pairs) in every.items():
        job = one.job
        names = np.asarray(job.dataset.class_names)
        columns = {
            "source": name,
            "test_image": job.test_indices[pairs.test],
            "test_label": names[job.test_images.labels[pairs.test]],
            "training_image": job.train_indices[pairs.train],
            "training_label": names[job.training_images.labels[pairs.train]],
            "norm": np.linalg.norm(
                (pairs.images - pairs.originals).reshape(len(pairs.test), -1), axis=1
            ),
            "predicted_change": pairs.changes,
        }
        parts.append(pd.DataFrame(columns))
    with complete_or_absent(path, replace=True) as temporary:
        temporary.write_text(pd.concat(parts).to_csv(index=False))


def draw_perturbed(path: epath.Path, every: Mapping[str, tuple[Finetuned, PerturbedPairs]]) -> None:
    """Draw test images and, below each, every source's training image before and after.

    A third image shows the change, scaled by its largest magnitude: grey is 0, white positive.
    """
    first, pairs = next(iter(every.values()))
    test, names = first.job.test_images, first.job.dataset.class_names
    figure, grid = subplots(1.1 * len(pairs.test) + 0.4, 1.25 * (1 + 3 * len(every)),
                            1 + 3 * len(every), len(pairs.test))  # fmt: skip
    lines = ["test image"]
    for column, row in enumerate(pairs.test):
        image(grid[0][column], test.images[row], names[test.labels[row]])
    for name, (one, found) in every.items():
        top, labels = len(lines), one.job.training_images.labels[found.train]
        for column, label in enumerate(labels):
            before, after = found.originals[column], found.images[column]
            change = after - before
            scaled = 0.5 + change / (2 * max(np.abs(change).max(), 1e-12))
            texts: list[Any] = [names[label], f"loss {found.changes[column]:+.3g}", ""]
            for line, (pixels, text) in enumerate(zip((before, after, scaled), texts, strict=True)):
                image(grid[top + line][column], np.rint(255 * pixels).astype(np.uint8), text)
        lines += [f"{name}, before", "after", "change"]
    label_lines(grid, lines)
    save(figure, path)
