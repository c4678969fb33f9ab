"""Damaged files, full disks, and Ctrl-C at a given moment."""

import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Where the system refuses in the middle, Orbax drops its other coroutines.
REFUSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DAMAGE: dict[str, Callable[[Path], Any]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "deleted": lambda path: path.unlink(),
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
}


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x41]) + content[middle + 1 :]


def equal_bits(left: Any, right: Any) -> bool:
    """Return whether two dictionaries have bitwise equal arrays under the same names."""
    if left.keys() != right.keys():
        return False
    pairs = [(np.asarray(left[key]), np.asarray(right[key])) for key in left]
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs
    )


def contents(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def fill_disk(patch: pytest.MonkeyPatch) -> None:
    """Simulate a disk with 1,000 bytes left."""
    usage = shutil.disk_usage(".")._replace(free=1000)
    patch.setattr(shutil, "disk_usage", lambda place: usage)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system reject writing files beyond `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def interrupt_when_called(patch: pytest.MonkeyPatch, owner: type, name: str) -> list[str]:
    """Simulate Ctrl-C at the start of a method; return the calls that reached their end."""
    method, ended = getattr(owner, name), []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        result = method(*args, **kwargs)
        ended.append(name)
        return result

    patch.setattr(owner, name, interrupted)
    return ended
