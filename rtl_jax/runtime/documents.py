"""Bounded reading of untrusted files and JSON."""

import json
import math
import os
from typing import Any

from etils import epath

from rtl_jax.runtime import limits


def read_bytes(path: epath.PathLike, most: int) -> bytes:
    """Read a regular file of at most `most` bytes.

    Raises ValueError for anything else, such as a pipe or a device, which may have no end, and
    OSError if reading fails.
    """
    place = os.fspath(path)
    # epath's `is_file` is true for everything that is not a directory.
    if "://" not in place and os.path.exists(place) and not os.path.isfile(place):
        raise ValueError("it is not a regular file")
    with epath.Path(path).open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def parse_json(text: str) -> Any:
    """Parse a JSON text. Raises ValueError if it is invalid, too deep or too large."""
    if text.count("[") + text.count("{") > limits.CONTAINERS:
        raise ValueError(f"it has more than {limits.CONTAINERS:,} lists and tables")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {limits.DEPTH} deep") from None
    level = [value]
    for _ in range(limits.DEPTH + 1):
        level = [item for one in level for item in _inside(one) if isinstance(item, dict | list)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {limits.DEPTH} deep")


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def is_whole(value: object, low: int, high: int) -> bool:
    """Return whether a value is an integer, not a boolean, in [low, high]."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """Return whether a value is a finite number, not a boolean, in [low, high]."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return low <= value <= high and abs(value) < math.inf
