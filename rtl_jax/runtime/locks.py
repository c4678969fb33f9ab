"""One process at a time in a directory, so that none loses what another has written."""

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
    """Hold the lock of a directory, which is made where there is none.

    The system frees it when the process ends, however that happens. Remote directories (gs://...)
    have no locks. Raises UserError, naming the holder, where another process has it, and where the
    directory cannot be made or written.
    """
    place = absolute(directory)
    if "://" in str(place):
        yield
        return
    path = place / NAME
    try:
        place.mkdir(parents=True, exist_ok=True)
        # Opened without truncating it: it may hold another process's name.
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
            pass  # a file system without locks, as some network drives are: as before
        file.seek(0)
        file.truncate()
        file.write(_holder())
        file.flush()
        yield


def _holder() -> str:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    command = " ".join(sys.argv)[:200]
    return f"process {os.getpid()} on {platform.node()}, since {since} UTC ({command})\n"
