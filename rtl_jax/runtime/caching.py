"""Results that are kept, where they depend on JAX's 64-bit switch as well as on arguments."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import jax

Result = TypeVar("Result")


def cached(function: Callable[..., Result]) -> Callable[..., Result]:
    """Keep a function's last 64 results, those with 64 bits apart from those without.

    For shapes, dtypes and numbers that JAX works out, whose default dtype is that of the moment.
    """

    @lru_cache(maxsize=64)
    def known(wide: bool, *arguments: Any) -> Result:
        return function(*arguments)

    @wraps(function)
    def call(*arguments: Any) -> Result:
        return known(jax.config.jax_enable_x64, *arguments)  # type: ignore[attr-defined]

    return call
