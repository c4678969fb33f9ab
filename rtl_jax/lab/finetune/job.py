"""From an experiment's settings to its network and its images."""

import dataclasses
from functools import cached_property
from typing import Any

import jax
import numpy as np

from rtl_jax.data import Dataset, ImageSet
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.targets import draw_rows, load_target
from rtl_jax.models import sources as zoo
from rtl_jax.models.checkpoint import Network, digest
from rtl_jax.runtime import devices
from rtl_jax.train.head import new_head
from rtl_jax.train.split import CutNetwork
from rtl_jax.train.step import Program


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A source and a target, loaded: what runs between them have in common."""

    source: Network
    dataset: Dataset

    @cached_property
    def digests(self) -> dict[str, str]:
        """The content of both, for the names of runs."""
        halves = (self.dataset.train, self.dataset.test)
        return {
            "network": digest((self.source.params, self.source.batch_stats)),
            "images": digest([(half.images, half.labels) for half in halves]),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """An experiment with its network and its images: everything that a run needs."""

    experiment: Experiment
    pair: Pair
    network: Network  # the source, its head replaced by the target's
    program: Program
    train_rows: np.ndarray  # int [N]: the subset's images in the data set, in the order drawn
    test_rows: np.ndarray  # int [M], ascending

    @cached_property
    def run(self) -> str:
        """Identifies the run by content: the settings that matter, the network, the images."""
        return self.experiment.fingerprint(**self.pair.digests)

    @property
    def key(self) -> jax.Array:
        """The key of the batches and the augmentation."""
        return jax.random.fold_in(jax.random.key(self.experiment.seed), 1)

    @property
    def train(self) -> ImageSet:
        """The training images."""
        return self.pair.dataset.train.take(self.train_rows)

    @property
    def test(self) -> ImageSet:
        """The test images."""
        return self.pair.dataset.test.take(self.test_rows)

    def provenance(self) -> dict[str, Any]:
        """What the fine-tuned network's manifest says of where it comes from."""
        return {
            "kind": "fine-tuned",
            "run": self.run,
            "source": self.network.provenance,
            "settings": self.experiment.to_dict(),
            "class_names": list(self.pair.dataset.class_names),
        }

    def describe(self) -> str:
        """What is fine-tuned on what, in a line."""
        experiment, dataset = self.experiment, self.pair.dataset
        return (
            f"{experiment.source.checkpoint} ({self.network.architecture.name}) -> "
            f"{experiment.target.dataset}: {len(self.train_rows)} training and "
            f"{len(self.test_rows)} test images of {dataset.num_classes} classes, in "
            f"{dataset.order} order, at {experiment.target.image_size} px"
            + (f", {experiment.target.variant}" if experiment.target.variant else "")
        )


def load(experiment: Experiment, convert: zoo.Convert | None = None) -> Pair:
    """Load the source and the target of an experiment; UserError where one is missing."""
    source = zoo.load_source(experiment.source, seed=experiment.seed, convert=convert)
    return Pair(source, load_target(experiment.target))


def assemble(experiment: Experiment, pair: Pair) -> Job:
    """Draw the subset and the new head of an experiment between a loaded pair."""
    target, transfer, dataset = experiment.target, experiment.transfer, pair.dataset
    classes = dataset.num_classes
    architecture = pair.source.architecture.replace(num_classes=classes)
    # Too many blocks fail here, before any work.
    network = CutNetwork.of(architecture, transfer, target.image_size)
    train, test = draw_rows(target, dataset, experiment.seed)
    program = Program(
        network.replace(dtype=devices.compute_dtype(transfer.precision)),
        transfer,
        experiment.augmentation,
        transfer.epochs_for(len(train)),
    )
    return Job(
        experiment,
        pair,
        new_head(pair.source, architecture, transfer.head, experiment.seed),
        program,
        train,
        test,
    )


def prepare(experiment: Experiment, convert: zoo.Convert | None = None) -> Job:
    """Load the source and the data, draw the subset and the new head."""
    return assemble(experiment, load(experiment, convert))
