"""Memoisation of results that depend on JAX's 64-bit switch as well as on arguments."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import jax

Result = TypeVar("Result")


def cached(function: Callable[..., Result]) -> Callable[..., Result]:
    """Cache a function's last 64 results, separately with and without JAX's 64-bit mode.

    For shapes, dtypes and numbers computed by JAX, whose default dtype depends on this mode.
    """

    @lru_cache(maxsize=64)
    def known(wide: bool, *arguments: Any) -> Result:
        return function(*arguments)

    @wraps(function)
    def call(*arguments: Any) -> Result:
        return known(jax.config.jax_enable_x64, *arguments)  # type: ignore[attr-defined]

    return call
