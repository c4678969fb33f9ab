"""Batches of one shape: the last one is padded, so that one program is compiled."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class PaddedBatch(NamedTuple):
    """rows: int [size], which images; the last one is repeated where there are no more.

    number: how many of them count, from the first. inside: bool [size], which of them count.
    """

    rows: np.ndarray
    number: int
    inside: np.ndarray


def padded_batches(total: int, size: int, *, multiple: int = 1) -> Iterator[PaddedBatch]:
    """Batches over the rows 0 .. `total` - 1.

    Each has `size` rows, or all of them where that is fewer, rounded up to a `multiple`: of the
    number of devices that share it.
    """
    size = max(min(size, total), 1)
    size += -size % multiple
    for first in range(0, total, size):
        yield padded_rows(total, size, first)


def padded_rows(total: int, size: int, first: int = 0) -> PaddedBatch:
    """The `size` rows from `first` on, of `total`."""
    rows = np.arange(first, first + size)
    inside = rows < total
    return PaddedBatch(np.minimum(rows, total - 1), int(inside.sum()), inside)
