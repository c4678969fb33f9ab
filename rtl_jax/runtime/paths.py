"""Default directories, short names of paths, and atomic writes."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from etils import epath

from rtl_jax.errors import UserError


def cache_path(cache_dir: str | Path | None = None) -> Path:
    """Return the cache directory: the argument, else RTL_JAX_CACHE_DIR, else ~/.cache/rtl_jax."""
    chosen = cache_dir or os.environ.get("RTL_JAX_CACHE_DIR") or "~/.cache/rtl_jax"
    return Path(chosen).expanduser().absolute()


def data_path(data_dir: str | Path | None = None) -> Path:
    """Return the data directory: the argument, RTL_JAX_DATA_DIR, or ~/.cache/rtl_jax/data."""
    chosen = data_dir or os.environ.get("RTL_JAX_DATA_DIR") or "~/.cache/rtl_jax/data"
    return Path(chosen).expanduser().absolute()


def absolute(path: epath.PathLike) -> epath.Path:
    """Make `path` absolute, as Orbax requires; a remote path (gs://...) already is."""
    path = epath.Path(path).expanduser()
    return path if path.is_absolute() else epath.Path(os.path.abspath(path))


def printable(text: object) -> str:
    r"""Return a path or a text in a form that can be printed and written anywhere.

    Bytes of a file name that are not UTF-8, which Python represents as lone surrogates, are escaped
    as in \xe9.
    """
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def short_names(paths: Sequence[str]) -> list[str]:
    """Return the last parts of paths, as many as needed to distinguish them."""
    parts = [path.rstrip("/").split("/") for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


@contextlib.contextmanager
def complete_or_absent(destination: epath.PathLike, replace: bool = False) -> Iterator[epath.Path]:
    """Yield a temporary sibling to write; rename it to `destination` on success, else remove it.

    Even if the process is killed, `destination` is either complete or absent; with `replace`, for
    files only, it is complete or unchanged. Raises UserError if writing fails, or if something
    exists already and is not to be replaced.
    """
    destination = absolute(destination)
    temporary = destination.parent / f".{destination.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(destination) if replace else temporary.rename(destination)
    except OSError as error:
        raise UserError(f"cannot write {destination}: {error}") from error
    finally:
        if temporary.exists():
            temporary.rmtree() if temporary.is_dir() else temporary.unlink()
