"""Where files are kept when no setting says so."""

import os
from pathlib import Path

from etils import epath


def cache_path(cache_dir: str | Path | None = None) -> Path:
    """The cache directory: the argument, else RTL_JAX_CACHE_DIR, else ~/.cache/rtl_jax."""
    chosen = cache_dir or os.environ.get("RTL_JAX_CACHE_DIR") or "~/.cache/rtl_jax"
    return Path(chosen).expanduser().absolute()


def data_path(data_dir: str | Path | None = None) -> Path:
    """The data directory: the argument, else RTL_JAX_DATA_DIR, else ~/.cache/rtl_jax/data."""
    chosen = data_dir or os.environ.get("RTL_JAX_DATA_DIR") or "~/.cache/rtl_jax/data"
    return Path(chosen).expanduser().absolute()


def absolute(path: epath.PathLike) -> epath.Path:
    """`path` from the root, as Orbax wants it; a remote path (gs://...) is that already."""
    path = epath.Path(path).expanduser()
    return path if path.is_absolute() else epath.Path(os.path.abspath(path))
