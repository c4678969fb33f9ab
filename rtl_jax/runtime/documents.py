"""Files and texts from elsewhere, read within bounds of size and depth."""

import json
import math
import os
from typing import Any

from etils import epath

from rtl_jax.runtime import limits


def read_bytes(path: epath.PathLike, most: int) -> bytes:
    """The contents of a regular file of at most `most` bytes.

    Raises ValueError for anything else, such as a pipe or a device, which may have no end, and
    OSError where the system refuses.
    """
    place = os.fspath(path)
    # `is_file` of a path of epath is true of all that is no directory.
    if "://" not in place and os.path.exists(place) and not os.path.isfile(place):
        raise ValueError("it is not a regular file")
    with epath.Path(path).open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def parse_json(text: str) -> Any:
    """What a JSON text says. Raises ValueError where it is none, or too deep or too large."""
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
    """Whether a value is a whole number, and no truth value, in [low, high]."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether a value is a finite number, and no truth value, in [low, high]."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return low <= value <= high and abs(value) < math.inf
