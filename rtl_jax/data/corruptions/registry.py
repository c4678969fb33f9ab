"""Registry of the functions that implement the corruptions.

A corruption consists of a plan, made on the host with NumPy, and its application to images on the
device. The plan contains all random numbers, so that they are the same on every machine, and
everything that depends on the severity, so that severities share a compiled program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rtl_jax.data.corruptions.severities import CORRUPTIONS

# (generator, height, width, *parameters of the severity) -> arrays, float32 or int32.
Plan = Callable[..., tuple[np.ndarray, ...]]


class Entry(NamedTuple):
    """A corruption.

    apply: (image float32 [H, W, 3], *arrays of the plan) -> float32 [H, W, 3], not clipped. Without
      a plan, it runs on the host: (generator, image uint8 [H, W, 3], *parameters) -> uint8.
    plan: None for a corruption on the host.
    random: whether every image has its own plan.
    """

    apply: Callable[..., Any]
    plan: Plan | None
    random: bool


ENTRIES: dict[str, Entry] = {}


def register(
    name: str, plan: Plan | None, *, random: bool = False
) -> Callable[[Callable], Callable]:
    """Register the decorated function under a name in CORRUPTIONS."""

    def decorate(function: Callable) -> Callable:
        if name in ENTRIES or name not in CORRUPTIONS:
            raise ValueError(f"{name!r} is registered, or has no severities")
        ENTRIES[name] = Entry(function, plan, random)
        return function

    return decorate


def numbers(
    rng: np.random.Generator, height: int, width: int, *parameters: float
) -> tuple[np.ndarray, ...]:
    """Make the plan of a corruption that takes its parameters unchanged."""
    return tuple(np.asarray(each, np.float32) for each in parameters)
