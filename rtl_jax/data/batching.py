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


def padded_batches(total: int, size: int, *, start: int = 0) -> Iterator[PaddedBatch]:
    """The rows `start` .. `total` - 1 in batches of `size`, or of all rows where that is fewer."""
    size = min(size, total - start)
    for first in range(start, total, max(size, 1)):
        rows = np.arange(first, first + size)
        inside = rows < total
        yield PaddedBatch(np.minimum(rows, total - 1), int(inside.sum()), inside)
