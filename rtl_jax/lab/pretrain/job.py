"""The network, images and program of a source's training, from an experiment's settings."""

import dataclasses
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rtl_jax.data import ImageSet, draw_test_subset
from rtl_jax.data.stream import Stream, decoded_bytes, open_stream
from rtl_jax.errors import UserError
from rtl_jax.lab import config, evaluation
from rtl_jax.lab.compatibility import name_differences, other_classes
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.inputs import draw_rows, load_network, load_target
from rtl_jax.lab.memory import Batch, require_memory
from rtl_jax.lab.pretrain.inputs import steps_per_epoch
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.runtime.digest import digest, image_digests
from rtl_jax.train.feature_cache import FeatureCache
from rtl_jax.train.feeds import Feed, InMemory, Streamed
from rtl_jax.train.head import new_head
from rtl_jax.train.placement import BatchDivided
from rtl_jax.train.program import Program
from rtl_jax.train.split import SplitNetwork
from rtl_jax.train.step import Keys, TrainState
from rtl_jax.train.stored import as_stored
from rtl_jax.train.trainer import Training


@dataclasses.dataclass(frozen=True)
class SourceTraining:
    """An experiment with its network and images: everything that a training needs."""

    experiment: Experiment
    network: Network  # what training starts from
    program: Program
    steps_per_epoch: int
    train: ImageSet | Stream
    validation: ImageSet
    attacked: ImageSet | None
    data_order: str
    class_names: tuple[str, ...]

    @cached_property
    def run(self) -> str:
        """The run's name, a digest of the settings that matter, initial weights and images.

        Streamed images are too many to read beforehand, so their number represents them.
        """
        streamed = isinstance(self.train, Stream)
        train = self.num_images if isinstance(self.train, Stream) else _digest(self.train)
        return self.experiment.fingerprint(
            network=self.network.digest,
            images=[streamed, train, _digest(self.validation)],
        )

    @property
    def num_images(self) -> int:
        """The number of training images."""
        return self.train.num_images if isinstance(self.train, Stream) else len(self.train)

    def keys(self) -> tuple[Keys, jax.Array]:
        """Return the keys of the training, and the key of the validation's attacks."""
        key = jax.random.fold_in(jax.random.key(self.experiment.seed), 1)
        order, steps, validation = jax.random.split(key, 3)
        return Keys(order, *jax.random.split(steps)), validation

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of the trained network; streamed images are too many to include."""
        return {
            "kind": "pretrained",
            "run": self.run,
            "source": dict(self.network.provenance),
            "settings": self.experiment.to_dict(),
            "image_size": self.program.network.image_size,
            "class_names": list(self.class_names),
            "training_images": (
                None if isinstance(self.train, Stream) else image_digests(self.train.images)
            ),
        }

    def begin(self, mesh: Mesh) -> tuple[Training, TrainState]:
        """Return the training of one seed, its batches divided over `mesh`, and its first state."""
        placement = BatchDivided(mesh)
        feed = self._feed(placement)
        step = self.program.step(feed.steps_per_epoch)
        (params, batch_stats), frozen = step.divide(
            dict(self.network.params), dict(self.network.batch_stats)
        )
        state = step.start(params, batch_stats)
        training = Training.of(self.program, placement.state(frozen), feed, placement)
        one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], state)
        return training, placement.state(one)

    def _feed(self, placement: BatchDivided) -> Feed:
        """Return the training images in full batches, in a new order every epoch.

        They do not depend on the number of devices and hosts, and can begin at any step. The
        remainder that would form a partial batch is dropped.
        """
        settings = self.program.settings
        keys = jax.tree.map(lambda key: key[None], self.keys()[0])
        if isinstance(self.train, ImageSet):
            every = np.arange(len(self.train))
            images = self.train.images
            cache = FeatureCache(
                placement.whole(as_stored(images)),
                images.shape[1:],
                self.train.labels,
                (every,),
                images.dtype,
                features=False,
            )
            return InMemory(
                cache,
                every[None],
                keys,
                settings.batch_size,
                placement,
                partial_batch=False,
                first_epoch=0,
            )
        batches = self.train.batches(
            batch_size=settings.batch_size,
            seed=self.experiment.seed,
            host=jax.process_index(),
            hosts=jax.process_count(),
            resized_crop=self.experiment.augmentation.resized_crop,
            threads=settings.decoding_threads,
            workers=settings.decoding_processes,
        )
        return Streamed(batches, keys, settings.batch_size, self.steps_per_epoch, placement)


def prepare(experiment: Experiment) -> SourceTraining:
    """Load the initial network and the data, or open a stream if these are too large."""
    target, settings = experiment.target, experiment.pretraining
    if settings.num_attacked:
        evaluation.method(experiment.attack)  # raises if it cannot be used
    source = load_network(experiment.source, experiment.seed)
    size = decoded_bytes(target.dataset, data_dir=target.data_dir, image_size=target.image_size)
    streamed = size > settings.memory_mib * 2**20
    augmentation = experiment.augmentation
    train: ImageSet | Stream
    if streamed:
        train, validation, order, names = _stream(experiment)
        augmentation = dataclasses.replace(augmentation, resized_crop=0.0)  # done when decoding
    else:
        train, validation, order, names = _load(experiment)
    number = train.num_images if isinstance(train, Stream) else len(train)
    architecture = source.architecture.replace(num_classes=len(names))
    # A network trained from scratch, or previously on other classes, gets a new head.
    name_differences(experiment.source.checkpoint, source, target.image_size, validation)
    if other_classes(source, tuple(names)):
        source = new_head(source, architecture, "uniform", experiment.seed)
    # Everything trains, and BatchNorm uses batch statistics.
    split = SplitNetwork(
        architecture,
        blocks=None,
        frozen_batch_norm="batch",
        image_size=target.image_size,
        dtype=devices.compute_dtype(settings.precision),
    )
    program = Program(split, settings, augmentation, settings.epochs)
    program.check()
    steps = steps_per_epoch(number, settings.batch_size)
    attacked = _attacked(validation, settings, len(names))
    _require_memory(program, experiment, len(validation), len(attacked or ()))
    print(
        f"{experiment.source.checkpoint} ({architecture.name}) <- {target.dataset}: {number} "
        f"training and {len(validation)} validation images of {len(names)} classes, "
        f"{'streamed' if streamed else 'in memory'}, at {target.image_size} px; "
        f"{_perturbation(settings)}"
    )
    return SourceTraining(
        experiment=experiment,
        network=source,
        program=program,
        steps_per_epoch=steps,
        train=train,
        validation=validation,
        attacked=attacked,
        data_order=order,
        class_names=names,
    )


def _require_memory(program: Program, experiment: Experiment, seen: int, hit: int) -> None:
    """Raise UserError if a device has too little memory for its share of a batch.

    `seen` and `hit` are the numbers of validation images, clean and attacked.
    """
    settings, batch = program.settings, experiment.attack.batch_size
    # On a CPU, devices share their memory with each other and with other processes.
    shares = 1 if devices.platform() == "cpu" else jax.device_count()
    batches = (
        Batch("pretraining.batch_size", settings.batch_size // shares, "train"),
        Batch("pretraining.eval_batch_size", min(settings.eval_batch_size, seen) // shares),
        Batch("attack.batch_size", min(batch, hit) // shares, "attack"),
    )
    network = program.network
    require_memory(network.architecture, network.image_size, *batches, dtype=network.dtype)


def _load(experiment: Experiment) -> tuple[ImageSet, ImageSet, str, tuple[str, ...]]:
    dataset = load_target(experiment.target)
    rows, tested = draw_rows(experiment.target, dataset, experiment.seed)
    return dataset.train.take(rows), dataset.test.take(tested), dataset.order, dataset.class_names


def _stream(experiment: Experiment) -> tuple[Stream, ImageSet, str, tuple[str, ...]]:
    target = experiment.target
    if target.num_images is not None:
        raise UserError(
            "target.num_images: a streamed data set is used whole: leave it unset, or raise "
            "pretraining.memory_mib so that the set is kept in memory"
        )
    if target.folds is not None:
        raise UserError(
            "target.folds: a streamed data set is not divided into folds: leave it unset, or raise "
            "pretraining.memory_mib so that the set is kept in memory"
        )
    if given := target.test_dataset or target.variant:
        raise UserError(
            f"target: {given} is not available for a streamed data set: leave it out, or raise "
            "pretraining.memory_mib so that the set is kept in memory"
        )
    stream = open_stream(
        target.dataset,
        data_dir=target.data_dir,
        image_size=target.image_size,
        classes=target.classes,
    )
    validation = stream.test(target.num_test_images)
    return stream, validation, stream.order, stream.class_names


def _attacked(validation: ImageSet, settings: config.Pretraining, classes: int) -> ImageSet | None:
    if settings.num_attacked == 0:
        return None
    number = min(settings.num_attacked, len(validation))
    return validation.take(draw_test_subset(validation.labels, number, classes))


def _perturbation(settings: config.Pretraining) -> str:
    if settings.perturbation == "none":
        return "naturally"
    steps = f"({settings.steps})" if settings.perturbation in ("pgd", "fourier") else ""
    return f"with {settings.perturbation}{steps}, {settings.norm} {settings.eps:.4g}"


def _digest(images: ImageSet) -> str:
    return digest((images.images, images.labels))
