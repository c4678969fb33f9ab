"""Batches of equal shape: the last one is padded, so that only one program is compiled."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class PaddedBatch(NamedTuple):
    """A batch, given as rows of a dataset.

    rows: int [size], padded by repeating the last one. number: the number of leading rows that are
    not padding. inside: bool [size], whether a row is not padding.
    """

    rows: np.ndarray
    number: int
    inside: np.ndarray


def padded_batches(total: int, size: int, *, multiple: int = 1) -> Iterator[PaddedBatch]:
    """Yield batches over the rows 0 .. `total` - 1.

    Each has `size` rows, or `total` if that is smaller, rounded up to a multiple of `multiple`, the
    number of devices that share it.
    """
    size = max(min(size, total), 1)
    size += -size % multiple
    for first in range(0, total, size):
        yield padded_rows(total, size, first)


def batches_of_few_sizes(total: int, size: int) -> Iterator[PaddedBatch]:
    """Yield batches as `padded_batches`; fewer rows than `size` are padded to a power of two.

    Sets of similar sizes then share a program, which takes longer to compile than to run on a few
    images.
    """
    return padded_batches(total, size, multiple=min(size, 1 << max(total - 1, 0).bit_length()))


def padded_rows(total: int, size: int, first: int = 0) -> PaddedBatch:
    """Return the batch of `size` rows from `first` on, out of `total`."""
    rows = np.arange(first, first + size)
    inside = rows < total
    return PaddedBatch(np.minimum(rows, total - 1), int(inside.sum()), inside)
