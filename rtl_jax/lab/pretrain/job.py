"""From an experiment's settings to its network, its images and its program."""

import dataclasses
from functools import cached_property
from typing import Any

import jax
from jax.sharding import Mesh

from rtl_jax.data import ImageSet, draw_subset, draw_test_subset
from rtl_jax.data.stream import Stream, decoded_bytes, open_stream
from rtl_jax.errors import UserError
from rtl_jax.lab import config
from rtl_jax.lab.compatibility import name_differences, other_classes
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.inputs import load_network, load_target
from rtl_jax.lab.memory import Batch, require_memory
from rtl_jax.lab.pretrain.inputs import Feed, InMemory, Streamed, steps_per_epoch
from rtl_jax.lab.pretrain.program import SourceProgram
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.runtime.digest import digest, image_digests
from rtl_jax.train.head import new_head


@dataclasses.dataclass(frozen=True)
class SourceTraining:
    """An experiment with its network and its images: everything that a training needs."""

    experiment: Experiment
    network: Network  # what training starts from
    program: SourceProgram
    train: ImageSet | Stream
    validation: ImageSet
    attacked: ImageSet | None
    data_order: str
    class_names: tuple[str, ...]

    @cached_property
    def run(self) -> str:
        """Identifies the run by content: settings that matter, first weights, images.

        Streamed images are too many to read beforehand: their number stands for them.
        """
        streamed = isinstance(self.train, Stream)
        train = self.num_images if isinstance(self.train, Stream) else _digest(self.train)
        return self.experiment.fingerprint(
            network=self.network.digest,
            images=[streamed, train, _digest(self.validation)],
        )

    @property
    def num_images(self) -> int:
        """Training images."""
        return self.train.num_images if isinstance(self.train, Stream) else len(self.train)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.program.steps_per_epoch * self.program.settings.epochs

    def keys(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The keys of the order, of the steps (augmentation and attacks), of the validation."""
        key = jax.random.fold_in(jax.random.key(self.experiment.seed), 1)
        order, steps, validation = jax.random.split(key, 3)
        return order, steps, validation

    def provenance(self) -> dict[str, Any]:
        """What the trained network knows of itself; of streamed images there are too many."""
        return {
            "kind": "pretrained",
            "run": self.run,
            "source": dict(self.network.provenance),
            "settings": self.experiment.to_dict(),
            "image_size": self.program.image_size,
            "class_names": list(self.class_names),
            "training_images": (
                None if isinstance(self.train, Stream) else image_digests(self.train.images)
            ),
        }

    def feed(self, mesh: Mesh) -> Feed:
        """The training images in batches."""
        settings = self.program.settings
        if isinstance(self.train, ImageSet):
            return InMemory(self.train, settings.batch_size, mesh, self.keys()[0])
        batches = self.train.batches(
            batch_size=settings.batch_size,
            seed=self.experiment.seed,
            host=jax.process_index(),
            hosts=jax.process_count(),
            resized_crop=self.experiment.augmentation.resized_crop,
            threads=settings.decoding_threads,
        )
        return Streamed(batches, mesh)


def prepare(experiment: Experiment) -> SourceTraining:
    """Load what training starts from and the data; open a stream where they are too large."""
    target, settings = experiment.target, experiment.pretraining
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
    # What is trained from scratch, or was trained on other classes, gets a new head.
    name_differences(experiment.source.checkpoint, source, target.image_size, validation)
    if other_classes(source, tuple(names)):
        source = new_head(source, architecture, "uniform", experiment.seed)
    program = SourceProgram(
        architecture=architecture,
        settings=settings,
        augmentation=augmentation,
        image_size=target.image_size,
        steps_per_epoch=steps_per_epoch(number, settings.batch_size),
        dtype=devices.compute_dtype(settings.precision),
    )
    attacked = _attacked(validation, settings, len(names))
    _require_memory(program, experiment, len(validation), len(attacked or ()))
    print(
        f"{experiment.source.checkpoint} ({architecture.name}) <- {target.dataset}: {number} "
        f"training and {len(validation)} validation images of {len(names)} classes, "
        f"{'streamed' if streamed else 'in memory'}, at {target.image_size} px; "
        f"{_perturbation(settings)}"
    )
    return SourceTraining(experiment, source, program, train, validation, attacked, order, names)


def _require_memory(program: SourceProgram, experiment: Experiment, seen: int, hit: int) -> None:
    """Of what each device does at once; `seen` and `hit` are images that validate."""
    settings, batch = program.settings, experiment.attack.batch_size
    # On a CPU devices share their memory, as does whoever else is there.
    shares = 1 if jax.default_backend() == "cpu" else jax.device_count()
    batches = (
        Batch("pretraining.batch_size", settings.batch_size // shares, "train"),
        Batch("pretraining.eval_batch_size", min(settings.eval_batch_size, seen) // shares),
        Batch("attack.batch_size", min(batch, hit) // shares, "attack"),
    )
    require_memory(program.architecture, program.image_size, *batches, dtype=program.dtype)


def _load(experiment: Experiment) -> tuple[ImageSet, ImageSet, str, tuple[str, ...]]:
    target = experiment.target
    dataset = load_target(target)
    classes = dataset.num_classes
    rows = draw_subset(dataset.train.labels, target.num_images, experiment.seed, classes)
    tested = draw_test_subset(dataset.test.labels, target.num_test_images, classes)
    return dataset.train.take(rows), dataset.test.take(tested), dataset.order, dataset.class_names


def _stream(experiment: Experiment) -> tuple[Stream, ImageSet, str, tuple[str, ...]]:
    target = experiment.target
    if target.num_images is not None:
        raise UserError(
            "target.num_images: a set that is streamed is taken whole; leave it at none, or raise "
            "pretraining.memory_mib so that the set is kept in memory"
        )
    if given := target.test_dataset or target.variant:
        raise UserError(
            f"target: {given} is not to be had of a set that is streamed; leave it out, or raise "
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
    steps = f"({settings.steps})" if settings.perturbation == "pgd" else ""
    return f"with {settings.perturbation}{steps}, {settings.norm} {settings.eps:.4g}"


def _digest(images: ImageSet) -> str:
    return digest((images.images, images.labels))
