"""Accuracy under every corruption and severity, instead of an attack."""

import dataclasses
from typing import Any

import numpy as np

from rtl_jax.attacks import batch_cache
from rtl_jax.common_corruptions import evaluate
from rtl_jax.data import ImageSet
from rtl_jax.data.corruptions.frost import require_photographs
from rtl_jax.data.corruptions.severities import STANDARD, Corruption
from rtl_jax.data.variants import at_size, corrupted
from rtl_jax.lab import results
from rtl_jax.lab.attack.networks import NetworkUnderAttack
from rtl_jax.lab.memory import Batch, require_memory
from rtl_jax.lab.run import Run
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar


def corruption_rows(
    subject: NetworkUnderAttack, images: ImageSet, order: str, run: Run
) -> list[dict[str, Any]]:
    """Return a row without a corruption, and one for each corruption and severity.

    Measurements are kept in the run's scratch folder, so that an interrupted run can resume.
    """
    _, network, experiment, columns = subject
    settings, target = experiment.attack, experiment.target
    require_photographs(settings.corruptions)  # before anything is measured
    dtype = devices.compute_dtype(settings.precision)
    batch = Batch("attack.batch_size", min(settings.batch_size, len(images)), "look")
    require_memory(network.architecture, target.image_size, batch, dtype=dtype)
    logits_fn = network.logits_fn(dtype=dtype)
    resized = at_size(images, target.image_size)
    every = [
        Corruption(name, severity)
        for name in settings.corruptions or STANDARD
        for severity in settings.severities
    ]
    rows, seconds = [], 0.0
    with bar("corruptions", 1 + len(every), leave=True) as progress:
        for one in (None, *every):

            def found(one: Corruption | None = one) -> dict[str, np.ndarray]:
                seen = resized if one is None else corrupted(resized, one)
                sums = evaluate(logits_fn, seen.images, seen.labels, settings.batch_size)
                return {name: np.asarray(mean) for name, mean in sums.means().items()}

            name = "clean" if one is None else f"{one.name}-{one.severity}"
            stored = batch_cache.once(run.directory / "batches" / f"{name}.npz", found)
            seconds += float(stored["seconds"])
            tested = dataclasses.replace(target, corruption=None if one is None else str(one))
            rows.append(
                results.row(
                    experiment,
                    run=run.name,
                    method=settings.method,
                    variant=tested.variant,
                    data_order=order,
                    num_test_images=len(images),
                    accuracy=float(stored["accuracy"]),
                    loss=float(stored["loss"]),
                    seconds=seconds,
                    **network.columns(),
                    **columns,
                    **devices.describe(),
                )
            )
            progress.update(1)
    return rows
