"""Training and test data on the device, and the evaluation that reads them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.data import ImageSet
from rtl_jax.progress import bar
from rtl_jax.transfer import prefix
from rtl_jax.transfer.job import Job
from rtl_jax.transfer.step import Frozen, Metrics, Program, TrainState, evaluate_batch


class Inputs(NamedTuple):
    """A set of images on the device, whole: as stored, or as features at the cut.

    `program` is the training's, told which of the two it will get.
    """

    program: Program
    data: jax.Array
    labels: jax.Array


def place(job: Job, state: TrainState, frozen: Frozen) -> tuple[Inputs, Inputs]:
    """Put the training and the test images on the device.

    Features are computed instead where they stay valid: with statistics that do not move,
    and for training images without augmentation. Test features come first, which are read
    at every evaluation; what exceeds `transfer.feature_cache_mib` stays images.
    """
    room = job.experiment.transfer.feature_cache_mib * 2**20

    def one(images: ImageSet, augmented: bool) -> Inputs:
        nonlocal room
        labels = jnp.asarray(images.labels)
        size = prefix.feature_bytes(job.program, len(images))
        if augmented or size > room or not prefix.cacheable(job.program):
            return Inputs(job.program, jnp.asarray(images.images), labels)
        room -= size
        with bar("features of the frozen blocks", len(images)) as progress:
            data = prefix.features(job.program, state, frozen, images.images, progress.update)
        return Inputs(job.program.replace(features=True), data, labels)

    test = one(job.test, augmented=False)
    return one(job.train, augmented=not job.program.augmentation.is_identity), test


def evaluate(inputs: Inputs, state: TrainState, frozen: Frozen) -> dict[str, float]:
    """Accuracy (percent) and mean loss (nats) on test images, with the running statistics.

    The last batch is padded and the padding weighed with 0, so that one shape is compiled.
    """
    total = len(inputs.labels)
    size = min(inputs.program.settings.eval_batch_size, total)
    sums = Metrics.zero()
    with bar("testing", total) as progress:
        for start in range(0, total, size):
            rows = np.minimum(np.arange(start, start + size), total - 1)
            weights = np.arange(start, start + size) < total
            batch = inputs.data[rows], inputs.labels[rows], weights
            sums = sums.add(evaluate_batch(inputs.program, state, frozen, *batch))
            progress.update(int(weights.sum()))
    return sums.means()
