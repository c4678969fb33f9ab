"""Exclusive locks on directories, so that processes do not overwrite each other's files."""

import contextlib
import fcntl
import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import absolute

NAME = ".lock"


@contextlib.contextmanager
def exclusive(directory: epath.PathLike) -> Iterator[None]:
    """Hold the lock of a directory, which is created if missing.

    The system releases the lock when the process ends in any way. Remote directories (gs://...)
    have no locks. Raises UserError, naming the holder, if another process has the lock, and if the
    directory cannot be created or written.
    """
    place = absolute(directory)
    if "://" in str(place):
        yield
        return
    path = place / NAME
    try:
        place.mkdir(parents=True, exist_ok=True)
        # Do not truncate: the file may contain the name of another process.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{place} cannot be used as a work directory ({error.strerror or error}): choose "
            "another one with --workdir"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = file.read().strip() or "another process"
            raise UserError(
                f"{place} is in use by {holder}: wait for it to end, or choose another --workdir"
            ) from error
        except OSError:
            pass  # a file system without locks, such as some network drives
        file.seek(0)
        file.truncate()
        file.write(_holder())
        file.flush()
        yield


def _holder() -> str:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    command = " ".join(sys.argv)[:200]
    return f"process {os.getpid()} on {platform.node()}, since {since} UTC ({command})\n"
