"""From an experiment's settings to a fine-tuning: its network, its images and its name."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np

from rtl_jax.data.dataset import Dataset, ImageSet
from rtl_jax.data.source import shown
from rtl_jax.data.subset import draw_test_subset
from rtl_jax.lab.compatibility import name_differences
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.inputs import as_tested, draw_rows, load_network, load_target
from rtl_jax.lab.memory import Batch, require_memory
from rtl_jax.models.network import Network
from rtl_jax.runtime.digest import digest
from rtl_jax.train.finetuning import FineTuning, start
from rtl_jax.train.program import Program


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
    """A loaded source network and target data set, shared by the runs between them.

    corrupted: the data set's test images with `target.corruption`, or None without a corruption.
    """

    source: Network
    dataset: Dataset
    corrupted: ImageSet | None = None

    @property
    def test(self) -> ImageSet:
        """The test images, corrupted if asked for."""
        return self.dataset.test if self.corrupted is None else self.corrupted

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digests of both, for the names of runs."""
        halves = (self.dataset.train, self.dataset.test)
        return {
            "network": self.source.digest,
            "images": digest([(half.images, half.labels) for half in halves]),
        }


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Job(FineTuning):
    """A fine-tuning and the experiment that defines it."""

    experiment: Experiment
    inputs: Inputs

    @cached_property
    def run(self) -> str:
        """The run's name, a digest of the settings that matter, the network and the images."""
        return self.experiment.fingerprint(**self.inputs.digests)

    @property
    def dataset(self) -> Dataset:
        """All images of the target."""
        return self.inputs.dataset

    @property
    def attack_key(self) -> jax.Array:
        """The key of the attacks at evaluations."""
        return jax.random.fold_in(self.key, 3)

    @cached_property
    def attacked_images(self) -> ImageSet | None:
        """The test images attacked at evaluations, or None if none are."""
        if self.experiment.transfer.num_attacked == 0:
            return None
        images = self.test_images
        number = min(self.experiment.transfer.num_attacked, len(images))
        return images.take(draw_test_subset(images.labels, number, self.dataset.num_classes))

    def provenance(self) -> dict[str, Any]:
        """Return the provenance for the fine-tuned network's manifest."""
        known = {"run": self.run, "settings": self.experiment.to_dict()}
        return {**super().provenance(), **known}

    def describe(self) -> str:
        """Describe the source and the target in one line."""
        experiment, dataset = self.experiment, self.dataset
        return (
            f"{experiment.source.checkpoint} ({self.network.architecture.name}) -> "
            f"{shown(experiment.target.dataset)}: {len(self.train_indices)} training and "
            f"{len(self.test_indices)} test images of {dataset.num_classes} classes, in "
            f"{dataset.order} order, at {experiment.target.image_size} px"
            + (f", {experiment.target.variant}" if experiment.target.variant else "")
        )


def load_inputs(experiment: Experiment) -> Inputs:
    """Load an experiment's source and target; raise UserError if one is missing."""
    network, target = load_network(experiment.source, experiment.seed), experiment.target
    dataset = load_target(target)
    tested = None if target.corruption is None else as_tested(dataset.test, target)
    return Inputs(network, dataset, tested)


def assemble(experiment: Experiment, inputs: Inputs) -> Job:
    """Draw an experiment's subset and new head, given its loaded inputs.

    Raises UserError if a batch would not fit in memory, and as `draw_rows` and `start`.
    """
    dataset = inputs.dataset
    train_indices, test_indices = draw_rows(experiment.target, dataset, experiment.seed)
    fields = start(
        inputs.source,
        dataset.train,
        class_names=dataset.class_names,
        image_size=experiment.target.image_size,
        recipe=experiment.transfer,
        augmentation=experiment.augmentation,
        seed=experiment.seed,
        train_indices=train_indices,
        test=inputs.test,
        test_indices=test_indices,
    )
    job = Job(experiment=experiment, inputs=inputs, **fields)
    require_memory_for(job.program, len(train_indices), len(test_indices))
    return job


def tell_differences(jobs: Sequence[Job]) -> None:
    """Print where the jobs' common source was trained differently from what they assume."""
    first = jobs[0]
    tested = np.unique(np.concatenate([job.test_indices for job in jobs]))
    name_differences(
        first.experiment.source.checkpoint,
        first.inputs.source,
        first.program.network.image_size,
        first.dataset.test.take(tested),
    )


def require_memory_for(program: Program, trained: int, tested: int) -> None:
    """Raise UserError if a program's batches of this many images do not fit in memory."""
    network, settings, split = program.network, program.settings, program.network.split
    size, seen = min(settings.batch_size, trained), max(trained, tested)
    batches: tuple[Batch, ...] = (
        Batch("transfer.batch_size", size, "train", split),
        Batch("transfer.eval_batch_size", min(settings.eval_batch_size, seen), "look", split),
    )
    if settings.perturbs:  # its gradient goes back to the pixels
        batches += (Batch("transfer.batch_size", size, "attack", split),)
    require_memory(network.architecture, network.image_size, *batches, dtype=network.dtype)


def prepare(experiment: Experiment) -> Job:
    """Load the source and the data, draw the subset and the new head."""
    return assemble(experiment, load_inputs(experiment))
