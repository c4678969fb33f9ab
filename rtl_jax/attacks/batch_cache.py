"""Results of finished batches on disk, so that a kill costs one batch."""

import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import complete_or_absent


def keep(path: epath.Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name, complete or not at all; an older file is replaced."""
    with complete_or_absent(path, replace=True) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read(path: epath.Path) -> dict[str, np.ndarray]:
    """What `keep` wrote. Raises UserError where the file is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is damaged ({error}): remove it, and the same command attacks its images again"
        ) from error
