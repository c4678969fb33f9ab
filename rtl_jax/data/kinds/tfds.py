"""`tfds:NAME`: one of the paper's targets, or a dataset prepared by TFDS.

See `rtl_jax.data.originals` and `rtl_jax.data.tfds`.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rtl_jax.data import cache, originals, tfds
from rtl_jax.data.dataset import Decoded, Order
from rtl_jax.data.records import Halves
from rtl_jax.data.source import DataSource, register
from rtl_jax.errors import UserError
from rtl_jax.runtime.progress import bar


@register("tfds", takes="NAME")
class Tfds(DataSource):
    """The original files if there are any, else a prepared directory."""

    published = True

    @cached_property
    def found(self) -> originals.Found | Path:
        """The original files, or else a prepared directory.

        Missing data are downloaded, or prepared by TFDS. Raises UserError if that fails.
        """
        # Original files first: only their order reproduces the authors' subsets.
        name, data_dir = self.rest, self.data_dir
        target = originals.TARGETS.get(name)
        files = originals.find(target, data_dir) if target else None
        prepared = None if files else tfds.find_prepared(name, data_dir)
        if target and not prepared:
            return originals.Found(target, files or originals.fetch(target, data_dir))
        return prepared or tfds.prepare(name, data_dir)

    @property
    def order(self) -> Order:
        """See `DataSource.order`."""
        return "original" if isinstance(self.found, originals.Found) else "tfds"

    def cache_key(self, image_size: int, seed: int | None) -> str:
        """See `DataSource.cache_key`."""
        if isinstance(self.found, originals.Found):
            target, files = self.found
            sums = [file.sha256 for file in target.files]
            return cache.key(self.spec, files=files.values(), settings=sums)
        return cache.key(self.spec, files=tfds.files_of(self.found), settings=(image_size,))

    def read(self, image_size: int, seed: int | None) -> Decoded:
        """See `DataSource.read`."""
        if isinstance(self.found, originals.Found):
            return originals.read(*self.found)
        return tfds.read_prepared(self.found, image_size)

    def decoded_bytes(self, image_size: int) -> int:
        """See `DataSource.decoded_bytes`; the paper's targets need no files."""
        name = self.rest
        if name in originals.TARGETS:
            return originals.TARGETS[name].nbytes
        found = tfds.find_prepared(name, self.data_dir) or tfds.prepare(name, self.data_dir)
        prepared = tfds.open_prepared(found)
        height, width, channels = prepared.shape
        pixels = image_size**2 if height is None or width is None else height * width
        count = prepared.num_images(prepared.train) + prepared.num_images(prepared.test)
        return count * pixels * (1 if channels == 1 else 3)

    def records(self) -> Halves:
        """See `DataSource.records`; original files can only be read whole."""
        if isinstance(self.found, originals.Found):
            return super().records()
        prepared = tfds.open_prepared(self.found)
        train, test = (Split(self.found, split) for split in (prepared.train, prepared.test))
        return Halves(train, test, prepared.class_names, self.order)


class Split:
    """A split of a directory prepared by TFDS."""

    def __init__(self, path: Path, split: str):
        self._path, self._split = path, split
        self._prepared = tfds.open_prepared(path)
        self._num_classes = len(self._prepared.class_names)
        with tfds.reading(path, split):
            self._source: Any = self._prepared.source(split)
            self._length = len(self._source)

    def __reduce__(self) -> tuple[Any, ...]:
        return Split, (self._path, self._split)

    def __len__(self) -> int:
        return self._length

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """See `Records.read`."""
        with tfds.reading(self._path, self._split):
            row = self._source[index]
        content, label = row[self._prepared.image], int(row[self._prepared.label])
        self._check(label, index)
        return content, label

    def place(self, index: int) -> str:
        """Return the record's index in the split."""
        return f"{self._path}, split {self._split}, record {index}"

    def labels(self) -> np.ndarray:
        """See `Records.labels`. Labels are stored with the images, so the whole split is read."""
        found = np.empty(len(self), np.int32)
        with (
            tfds.reading(self._path, self._split),
            bar(f"reading labels of {self._path.parent.name}", len(self)) as progress,
        ):
            for index, (_, label) in enumerate(self._prepared.rows(self._split)):
                self._check(label, index)
                found[index] = label
                progress.update()
        return found

    def _check(self, label: int, index: int) -> None:
        if not 0 <= label < self._num_classes:
            raise UserError(
                f"{self.place(index)} has the label {label}: it must lie in "
                f"0..{self._num_classes - 1}"
            )
