"""Cache of finished batches on disk: an interrupted evaluation repeats only its last batch."""

import time
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import complete_or_absent


def keep(path: epath.Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays atomically, replacing an older file."""
    with complete_or_absent(path, replace=True) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def once(path: epath.Path, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the arrays in the file, computing and writing them first if it does not exist.

    `seconds` is the time that the computation took, in this call or an earlier one.
    """
    if not path.exists():
        began = time.monotonic()
        arrays = compute()
        keep(path, {**arrays, "seconds": np.asarray(time.monotonic() - began)})
    return read(path)


def read(path: epath.Path) -> dict[str, np.ndarray]:
    """Read the arrays that `keep` wrote. Raises UserError if the file is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is damaged ({error}): remove it, and the same command will attack its images "
            "again"
        ) from error
