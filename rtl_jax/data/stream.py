"""Streaming of datasets that are too large to hold decoded."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rtl_jax.data import leaks, pictures, union
from rtl_jax.data.batches import Batches, Decode, Shuffle
from rtl_jax.data.dataset import ImageSet, check_classes, require_every_class, three_channels
from rtl_jax.data.records import Files, Halves, Joined, Kept, Selected
from rtl_jax.data.source import SPLIT_SEED, open_sources
from rtl_jax.data.subset import draw_test_subset
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import data_path

# More threads than cores are slower; a single one would not read while it decodes.
LEAST_THREADS, MOST_THREADS = 2, 16


class Stream:
    """A classification dataset whose images are decoded on demand; see `open_stream`."""

    def __init__(self, name: str, halves: Halves, image_size: int):
        self.name = name
        self._train, self._test, self.class_names, self.order = halves
        self._image_size = image_size

    @property
    def num_images(self) -> int:
        """The number of images in the training split."""
        return len(self._train)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def batches(
        self,
        *,
        batch_size: int,
        seed: int,
        host: int = 0,
        hosts: int = 1,
        resized_crop: float = 0.0,
        threads: int | None = None,
        workers: int = 0,
    ) -> "Batches":
        """Iterate endlessly over batches of the training split.

        Args:
            batch_size: the total over all hosts.
            seed: determines the orders and crops, 0 .. 2**32 - 1.
            host: the share to read, 0 .. hosts - 1.
            hosts: the number of shares.
            resized_crop: the smallest fraction of the area in a random resized crop (see
                `crop.crop_box`); 0 resizes the shorter side and crops the centre.
            threads: the number of threads that read and decode, in each process; None: one per
                core, from 2 to 16.
            workers: the number of additional processes that decode whole batches; 0: this process
                decodes.

        Returns:
            An iterator of (images, labels, indices) that can save and restore its state.

        Raises:
            UserError: if `hosts` does not divide the batch, the batch exceeds the dataset, or an
                argument is out of range; from `next`, if an image is damaged.
        """
        if not 1 <= batch_size <= self.num_images:
            raise UserError(
                f"batch_size: expected 1 to {self.num_images}, the training images of "
                f"{self.name}; received {batch_size}"
            )
        if hosts < 1 or batch_size % hosts or not 0 <= host < hosts:
            raise UserError(
                f"batch_size: expected a multiple of the number of hosts, and a host of 0.."
                f"{hosts - 1}; received {batch_size} for host {host} of {hosts}"
            )
        if threads is None:
            threads = min(max(os.cpu_count() or 1, LEAST_THREADS), MOST_THREADS)
        if not 0 <= resized_crop <= 1 or threads < 1 or workers < 0:
            raise UserError(
                "expected resized_crop in [0, 1], 1 thread or more and 0 workers or more; "
                f"received {resized_crop}, {threads} and {workers}"
            )
        decode = Decode(self._train, self._image_size, seed, resized_crop)
        shuffle = Shuffle(self.num_images, batch_size, seed, host, hosts)
        return Batches(decode, shuffle, threads, workers)

    def test(self, limit: int | None) -> ImageSet:
        """Decode the images of the test split, uint8 [N, size, size, 3], or `limit` of them.

        They are drawn by `draw_test_subset`.

        Raises:
            UserError: if an image is damaged.
        """
        labels = self._test.labels()
        rows = draw_test_subset(labels, limit, self.num_classes)
        size = (self._image_size, self._image_size)
        encoded = (self._test.read(int(row))[0] for row in rows)
        images, broken = pictures.decode_all(
            encoded, len(rows), size, native=False, name=f"{self.name} test"
        )
        if broken:
            named = [f"{self._test.place(int(rows[row]))}: {reason}" for row, reason in broken]
            raise UserError(
                f"{len(broken)} of {len(rows)} test images cannot be decoded: replace them\n"
                f"{pictures.list_broken(named)}"
            )
        return three_channels(ImageSet(images, labels[rows]))


def open_stream(
    spec: str,
    *,
    data_dir: str | Path | None,
    image_size: int,
    classes: Sequence[int] | None = None,
) -> Stream:
    """Open a dataset whose images are decoded on demand.

    Args:
        spec: `folder:PATH`, `list:PATH`, `tfds:NAME` as prepared by TFDS, or several joined by `+`.
        data_dir: as for `load_dataset`.
        image_size: height and width in pixels of every image.
        classes: keep only these labels and renumber them 0, 1, ...; None keeps all. For `tfds:`
            this reads the whole dataset once.

    Returns:
        A `Stream`.

    Raises:
        UserError: as `load_dataset`, and for datasets that do not store images individually.
    """
    _check_grain()
    if image_size < 1:
        raise UserError(f"image_size must be positive, received {image_size}")
    halves = open_records(spec, data_dir=data_path(data_dir), classes=classes)
    for half, name in ((halves.train, "training"), (halves.test, "test")):
        if not len(half):
            raise UserError(f"{spec}: there are no {name} images")
    if isinstance(halves.train, Files | Kept):  # others would have to read every record
        require_every_class(spec, halves.class_names, halves.train.labels())
    return Stream(spec, halves, image_size)


def open_records(spec: str, *, data_dir: Path, classes: Sequence[int] | None = None) -> Halves:
    """Find the encoded images of a dataset, or of a union of datasets.

    As in `load_dataset`, test pictures with the name of a training picture in another folder are
    dropped. No picture is decoded, so equal content under another name is not detected.

    Raises UserError for kinds that can only be read whole, and as `load_dataset`.
    """
    sources = open_sources(spec, data_dir)
    sets = [source.records() for source in sources]
    halves = sets[0]
    plans = [source.plan(SPLIT_SEED) for source in sources]
    if len(sets) > 1 and plans[0] is not None:
        copies = leaks.copies_by_name(spec, plans[0], plans)
        leaks.report(spec, plans[0], {"name": copies})
        if copies.any():
            halves = halves._replace(test=Selected(halves.test, np.flatnonzero(~copies)))
    if len(sets) > 1:
        numbers = [union.renumbering(s.class_names, halves.class_names, spec) for s in sets]
        halves = halves._replace(
            train=Joined([s.train for s in sets], numbers),
            order=union.joint_order([s.order for s in sets]),
        )
    if classes is None:
        return halves
    check_classes(classes, len(halves.class_names), spec)
    names = tuple(halves.class_names[label] for label in classes)
    return Halves(Kept(halves.train, classes), Kept(halves.test, classes), names, halves.order)


def decoded_bytes(spec: str, *, data_dir: str | Path | None, image_size: int) -> int:
    """Estimate the memory, in bytes, of the images that `load_dataset` would return.

    No image is decoded: sizes come from metadata, for folders from up to 64 file headers.

    Raises:
        UserError: as `load_dataset`, if something is missing.
    """
    sources = open_sources(spec, data_path(data_dir))
    return sum(source.decoded_bytes(image_size) for source in sources)


def _check_grain() -> None:
    try:
        import grain  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"streaming needs a package that is not installed ({error}): pip install grain"
        ) from error
