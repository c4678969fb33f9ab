"""Encoded images by index, for datasets that are too large to hold decoded.

    Files     a folder's pictures
    Joined    several datasets, concatenated (see `union`)
    Selected  some of the images
    Kept      some of the classes

All can be pickled, and read from several threads concurrently.
"""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from rtl_jax.data.dataset import Order


class Records(Protocol):
    """Encoded images and their labels, indexed 0, 1, ..."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """Return a picture's file or content and its label. Raises UserError if damaged."""

    def place(self, index: int) -> str:
        """Return the name of a picture for messages."""

    def labels(self) -> np.ndarray:
        """Return all labels, int32 [N]."""


class Halves(NamedTuple):
    """The training and test records of a dataset, its class names and its order."""

    train: Records
    test: Records
    class_names: tuple[str, ...]
    order: Order


class Files:
    """Pictures in files, given as (path, label)."""

    def __init__(self, rows: Sequence[tuple[Path, int]]):
        # As text, a million paths take a fifth of the memory.
        self._paths = [str(path) for path, _ in rows]
        self._labels = np.array([label for _, label in rows], np.int32)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """See `Records.read`."""
        return Path(self._paths[index]), int(self._labels[index])

    def place(self, index: int) -> str:
        """Return the path of the file."""
        return self._paths[index]

    def labels(self) -> np.ndarray:
        """See `Records.labels`."""
        return self._labels


class Joined:
    """Several datasets, concatenated; `numbers` are the new labels of each one's classes."""

    def __init__(self, parts: Sequence[Records], numbers: Sequence[np.ndarray]):
        self._parts, self._numbers = parts, numbers
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """See `Records.read`."""
        part, inside = self._locate(index)
        source, label = self._parts[part].read(inside)
        return source, int(self._numbers[part][label])

    def place(self, index: int) -> str:
        """Return the name that the dataset itself uses."""
        part, inside = self._locate(index)
        return self._parts[part].place(inside)

    def labels(self) -> np.ndarray:
        """See `Records.labels`."""
        pairs = zip(self._parts, self._numbers, strict=True)
        return np.concatenate([numbers[part.labels()] for part, numbers in pairs])

    def _locate(self, index: int) -> tuple[int, int]:
        part = bisect.bisect_right(self._ends, index)
        return part, index - self._ends[part] + len(self._parts[part])


class Selected:
    """Some images of a dataset, by their indices."""

    def __init__(self, records: Records, indices: np.ndarray):
        self._records, self._indices = records, indices

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """See `Records.read`."""
        return self._records.read(int(self._indices[index]))

    def place(self, index: int) -> str:
        """Return the name that the whole set uses."""
        return self._records.place(int(self._indices[index]))

    def labels(self) -> np.ndarray:
        """See `Records.labels`."""
        return self._records.labels()[self._indices]


class Kept:
    """The images of some classes, renumbered 0, 1, ... in the order given."""

    def __init__(self, records: Records, classes: Sequence[int]):
        labels = records.labels()
        number = {label: new for new, label in enumerate(classes)}
        self._records = records
        self._rows = np.flatnonzero(np.isin(labels, list(classes)))
        self._labels = np.array([number[label] for label in labels[self._rows].tolist()], np.int32)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> tuple[Path | bytes, int]:
        """See `Records.read`."""
        source, _ = self._records.read(int(self._rows[index]))
        return source, int(self._labels[index])

    def place(self, index: int) -> str:
        """Return the name that the whole set uses."""
        return self._records.place(int(self._rows[index]))

    def labels(self) -> np.ndarray:
        """See `Records.labels`."""
        return self._labels
