"""The progress bars of a run, all in images."""

import sys
from collections.abc import Callable

from tqdm import tqdm

Progress = Callable[[int], None]  # told how many more are done


def bar(what: str, total: int, *, done: int = 0, leave: bool = False) -> tqdm:
    """A bar over `total` images, `done` of them already; `update(n)` as they are finished.

    In a log file, where every update is a line, there is one in ten seconds.
    """
    return tqdm(
        desc=what,
        total=total,
        initial=done,
        unit="img",
        leave=leave,
        dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else 10.0,
    )
