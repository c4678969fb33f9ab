"""Encoded images by number, of sets that are too large to be held decoded.

    Files     a folder's pictures
    Split     a split that TFDS has prepared
    Joined    several sets one after the other (see `union`)
    Kept      some of the classes

All can be pickled, and read by several threads at a time.
"""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from rtl_jax.data import folder, sources, tfds, union
from rtl_jax.data.dataset import Order, check_classes
from rtl_jax.errors import UserError
from rtl_jax.runtime.progress import bar

# The split of a folder that has none; as in `load_dataset`.
SPLIT_SEED = 0


class Records(Protocol):
    """Encoded images and their labels, numbered 0, 1, ..."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """A picture's file or content, and its label; raises UserError for damaged files."""

    def place(self, index: int) -> str:
        """What a message calls the picture."""

    def labels(self) -> np.ndarray:
        """All labels, int32 [N]."""


class Halves(NamedTuple):
    """The records of a set, and what is known about it."""

    train: Records
    test: Records
    class_names: tuple[str, ...]
    order: Order


def open_records(spec: str, *, data_dir: Path, classes: Sequence[int] | None = None) -> Halves:
    """Find the records of `folder:` and prepared `tfds:` sets, or of a union of them.

    Raises UserError for other kinds, which are read whole, and as `load_dataset`.
    """
    sets = [_open(part, data_dir) for part in union.parts(spec)]
    halves = sets[0]
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


class Files:
    """Pictures in files, given as (path, label)."""

    def __init__(self, rows: Sequence[tuple[Path, int]]):
        # Of a million Paths, text takes a fifth of the memory.
        self._paths = [str(path) for path, _ in rows]
        self._labels = np.array([label for _, label in rows], np.int32)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """As `Records.read`."""
        return Path(self._paths[index]), int(self._labels[index])

    def place(self, index: int) -> str:
        """The file."""
        return self._paths[index]

    def labels(self) -> np.ndarray:
        """As `Records.labels`."""
        return self._labels


class Split:
    """A split of a directory that TFDS has prepared."""

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
        """As `Records.read`."""
        with tfds.reading(self._path, self._split):
            row = self._source[index]
        content, label = row[self._prepared.image], int(row[self._prepared.label])
        self._check(label, index)
        return content, label

    def place(self, index: int) -> str:
        """The record's number in the split."""
        return f"{self._path}, split {self._split}, record {index}"

    def labels(self) -> np.ndarray:
        """As `Records.labels`. They are kept beside the images, so all of it is read."""
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


class Joined:
    """Several sets one after the other; `numbers` are the new labels of each one's classes."""

    def __init__(self, parts: Sequence[Records], numbers: Sequence[np.ndarray]):
        self._parts, self._numbers = parts, numbers
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """As `Records.read`."""
        part, inside = self._locate(index)
        source, label = self._parts[part].read(inside)
        return source, int(self._numbers[part][label])

    def place(self, index: int) -> str:
        """As the set itself calls it."""
        part, inside = self._locate(index)
        return self._parts[part].place(inside)

    def labels(self) -> np.ndarray:
        """As `Records.labels`."""
        pairs = zip(self._parts, self._numbers, strict=True)
        return np.concatenate([numbers[part.labels()] for part, numbers in pairs])

    def _locate(self, index: int) -> tuple[int, int]:
        part = bisect.bisect_right(self._ends, index)
        return part, index - self._ends[part] + len(self._parts[part])


class Kept:
    """The images of some classes, which are renumbered 0, 1, ... in the order given."""

    def __init__(self, records: Records, classes: Sequence[int]):
        labels = records.labels()
        number = {label: new for new, label in enumerate(classes)}
        self._records = records
        self._rows = np.flatnonzero(np.isin(labels, list(classes)))
        self._labels = np.array([number[label] for label in labels[self._rows].tolist()], np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """As `Records.read`."""
        source, _ = self._records.read(int(self._rows[index]))
        return source, int(self._labels[index])

    def place(self, index: int) -> str:
        """As the whole set calls it."""
        return self._records.place(int(self._rows[index]))

    def labels(self) -> np.ndarray:
        """As `Records.labels`."""
        return self._labels


def _open(spec: str, data_dir: Path) -> Halves:
    kind, rest = sources.parse(spec)
    if kind == "folder":
        plan = folder.plan_folder(sources.local(rest), SPLIT_SEED)
        return Halves(Files(plan.train), Files(plan.test), plan.class_names, "original")
    found = sources.find_tfds(rest, data_dir) if kind == "tfds" else None
    if not isinstance(found, Path):
        raise UserError(
            f"{spec} cannot be streamed, as it is read whole: stream a folder: or a tfds: set "
            "that TFDS has prepared, or raise the memory that images may take"
        )
    prepared = tfds.open_prepared(found)
    train, test = Split(found, prepared.train), Split(found, prepared.test)
    return Halves(train, test, prepared.class_names, "tfds")
