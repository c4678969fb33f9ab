"""From an experiment's settings to its network and its images."""

import dataclasses
from functools import cached_property

import jax

from rtl_jax import devices
from rtl_jax.checkpoint import Network, digest
from rtl_jax.config import Experiment
from rtl_jax.data import Dataset, ImageSet, draw_subset, draw_test_subset, load_dataset
from rtl_jax.models import zoo
from rtl_jax.transfer.freeze import cut_for
from rtl_jax.transfer.head import new_head
from rtl_jax.transfer.step import Program


@dataclasses.dataclass(frozen=True)
class Job:
    """An experiment with its network and its images: everything that a run needs."""

    experiment: Experiment
    network: Network  # the source, its head replaced by the target's
    program: Program
    train: ImageSet
    test: ImageSet
    data_order: str
    class_names: tuple[str, ...]

    @cached_property
    def run(self) -> str:
        """Identifies the run by content: the settings that matter, the network, the images."""
        images = [(half.images, half.labels) for half in (self.train, self.test)]
        return self.experiment.fingerprint(
            network=digest((self.network.params, self.network.batch_stats)), images=digest(images)
        )

    @property
    def key(self) -> jax.Array:
        """The key of the batches and the augmentation."""
        return jax.random.fold_in(jax.random.key(self.experiment.seed), 1)


def prepare(experiment: Experiment, convert: zoo.Convert | None = None) -> Job:
    """Load the source and the data, draw the subset and the new head."""
    target, transfer = experiment.target, experiment.transfer
    source = zoo.load_source(experiment.source, seed=experiment.seed, convert=convert)
    dataset = load_dataset(
        target.dataset,
        data_dir=target.data_dir,
        image_size=target.image_size,
        classes=target.classes,
    )
    train, test = _subsets(dataset, experiment)
    program = Program(
        architecture=source.architecture.replace(num_classes=dataset.num_classes),
        settings=transfer,
        augmentation=experiment.augmentation,
        image_size=target.image_size,
        epochs=transfer.epochs_for(len(train)),
        num_images=len(train),
        dtype=devices.compute_dtype(transfer.precision),
    )
    cut_for(program.architecture, transfer.blocks)  # too many blocks fail here, before any work
    network = new_head(source, program.architecture, transfer.head, experiment.seed)
    print(
        f"{experiment.source.checkpoint} ({network.architecture.name}) -> {target.dataset}: "
        f"{len(train)} training and {len(test)} test images of {dataset.num_classes} classes, "
        f"in {dataset.order} order, at {target.image_size} px"
    )
    return Job(experiment, network, program, train, test, dataset.order, dataset.class_names)


def _subsets(dataset: Dataset, experiment: Experiment) -> tuple[ImageSet, ImageSet]:
    target, classes = experiment.target, dataset.num_classes
    train = draw_subset(dataset.train.labels, target.num_images, experiment.seed, classes)
    test = draw_test_subset(dataset.test.labels, target.num_test_images, classes)
    return dataset.train.take(train), dataset.test.take(test)
