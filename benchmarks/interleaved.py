"""Interleaved timing of several functions, for machines of varying speed."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# Idle threads of a library keep spinning for a moment and would slow the next function.
PAUSE_SECONDS = 0.05


class Times(NamedTuple):
    """Median seconds: wall-clock time, and CPU time on all cores."""

    wall: float
    cpu: float


def medians(functions: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, Times]:
    """Return the times of each function over rounds in which each runs once.

    Each function must block until its work is done. An additional untimed round comes first, for
    compilation. On a shared machine, CPU time is more reliable than wall-clock time; then set
    OMP_WAIT_POLICY=passive, or torch's waiting threads count as work.
    """
    found: dict[str, list[Times]] = {name: [] for name in functions}
    for number in range(repetitions + 1):
        for name, function in functions.items():
            time.sleep(PAUSE_SECONDS)
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            times = Times(time.perf_counter() - wall, time.process_time() - cpu)
            if number > 0:
                found[name].append(times)
    return {
        name: Times(*map(statistics.median, zip(*times, strict=True)))
        for name, times in found.items()
    }
