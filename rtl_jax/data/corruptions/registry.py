"""The functions behind the names of corruptions.

A corruption is a plan, made on the host with NumPy, and its application to images on the device.
All that is random lies in the plan, so that every machine draws the same; and all that a severity
decides, so that severities share a compiled program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rtl_jax.data.corruptions.severities import CORRUPTIONS

# (generator, height, width, *the severity's parameters) -> arrays, float32 or int32.
Plan = Callable[..., tuple[np.ndarray, ...]]


class Entry(NamedTuple):
    """A corruption.

    apply: (image float32 [H, W, 3], *arrays of the plan) -> float32 [H, W, 3], not clipped. Without
      a plan it works on the host: (generator, image uint8 [H, W, 3], *parameters) -> uint8.
    plan: None on the host.
    random: every image has a plan of its own.
    """

    apply: Callable[..., Any]
    plan: Plan | None
    random: bool


ENTRIES: dict[str, Entry] = {}


def register(
    name: str, plan: Plan | None, *, random: bool = False
) -> Callable[[Callable], Callable]:
    """Register the decorated function under one of the names in CORRUPTIONS."""

    def decorate(function: Callable) -> Callable:
        if name in ENTRIES or name not in CORRUPTIONS:
            raise ValueError(f"{name!r} is registered, or has no severities")
        ENTRIES[name] = Entry(function, plan, random)
        return function

    return decorate


def numbers(
    rng: np.random.Generator, height: int, width: int, *parameters: float
) -> tuple[np.ndarray, ...]:
    """The plan of a corruption that takes its parameters as they are."""
    return tuple(np.asarray(each, np.float32) for each in parameters)
