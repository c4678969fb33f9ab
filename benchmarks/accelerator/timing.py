"""Timings of a program on the local accelerator, compared with its compiler's estimates."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.chips import chip_of
from benchmarks.programs import Case

# The approximate total duration of the timed calls of a program, and the minimum duration of a
# timing, in seconds. Shorter programs are called several times per timing.
_SECONDS, _LEAST = 2.0, 0.02
_MOST_TIMINGS, _LEAST_TIMINGS = 20, 5


def peaks(*, tiny: bool) -> dict[str, Any]:
    """Measure the accelerator's peaks with a large bfloat16 matrix product and a memory copy."""
    size, number = (512, 2**22) if tiny else (8192, 2**29)
    one, other = (
        jax.random.normal(jax.random.key(seed), (size, size), jnp.bfloat16) for seed in (0, 1)
    )
    product = timings(lambda: jax.block_until_ready(_product(one, other)), quick=tiny)
    source = jax.random.normal(jax.random.key(2), (number,), jnp.bfloat16)
    copy = timings(lambda: jax.block_until_ready(_negative(source)), quick=tiny)
    device = jax.devices()[0]
    known = chip_of(device.device_kind)
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "operations_s": 2 * size**3 / product["seconds"],
        "bytes_s": 2 * source.nbytes / copy["seconds"],
        "makers_operations_s": known.operations if known else None,
        "makers_bytes_s": known.bytes if known else None,
        "product": product,
        "copy": copy,
    }


@jax.jit
def _product(one: jax.Array, other: jax.Array) -> jax.Array:
    return one @ other


@jax.jit
def _negative(source: jax.Array) -> jax.Array:
    return -source


def time_case(case: Case, reached: dict[str, Any], *, quick: bool = False) -> dict[str, Any]:
    """Compile a program, time it on random arrays, and compare the time with the roofline's.

    `reached` is the result of `peaks`. `ratio` is the measured time over the roofline time at these
    peaks.
    """
    began = time.monotonic()
    with jax.default_matmul_precision("default"):
        arguments, keywords = _filled(case)
        compiled = case.function.lower(*arguments, **keywords).compile()
        compiling = time.monotonic() - began
        costs: Any = compiled.cost_analysis() or {}
        operations, moved = costs.get("flops", 0.0), costs.get("bytes accessed", 0.0)
        if case.body is not None and case.extra:
            body = case.body.function.lower(*case.body.arguments).compile().cost_analysis() or {}
            operations += case.extra * body.get("flops", 0.0)
            moved += case.extra * body.get("bytes accessed", 0.0)
    arrays = list(arguments[case.static :])

    def call() -> None:
        found = compiled(*arrays, **keywords)
        for place, part in zip(case.carried, found, strict=False):
            arrays[place - case.static] = part
        jax.block_until_ready(found)

    times = timings(call, quick=quick)
    seconds = times["seconds"]
    roofline = max(operations / reached["operations_s"], moved / reached["bytes_s"])
    memory: Any = compiled.memory_analysis()
    return {
        **times,
        "images": case.images,
        "images_s": case.images / seconds,
        "operations": operations,
        "bytes": moved,
        "temporaries": memory.temp_size_in_bytes if memory else None,
        "tflop_s": operations / seconds / 1e12,
        "gb_s": moved / seconds / 1e9,
        "roofline_seconds": roofline,
        "ratio": seconds / roofline,
        "compiling_seconds": compiling,
    }


def timings(call: Callable[[], Any], *, quick: bool = False) -> dict[str, Any]:
    """Return the median, spread and number of timings of a call that blocks until its work is done.

    `quick` takes only three timings, which show little more than that it runs.
    """
    call()
    started = time.perf_counter()
    call()
    once = max(time.perf_counter() - started, 1e-9)
    calls = max(1, math.ceil(_LEAST / once))
    number = int(np.clip(_SECONDS / (calls * once), _LEAST_TIMINGS, _MOST_TIMINGS))
    calls, number = (1, 3) if quick else (calls, number)
    found = []
    for _ in range(number):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - started) / calls)
    return {
        "seconds": statistics.median(found),
        "least_seconds": min(found),
        "most_seconds": max(found),
        "timings": number,
        "calls_in_each": calls,
    }


# ---- Random arrays of a program's shapes --------------------------------------------------------


def _filled(case: Case) -> tuple[list[Any], dict[str, Any]]:
    """Replace shapes by random arrays on the device, since zeros would be faster than real data."""
    pool = np.random.default_rng(0).normal(size=2**20 + 7).astype(np.float32)

    def fill(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jax.device_put(_array(jax.tree_util.keystr(path), leaf, pool))

    arguments, keywords = jax.tree_util.tree_map_with_path(fill, (case.arguments, case.keywords))
    return list(arguments), dict(keywords)


def _array(name: str, leaf: jax.ShapeDtypeStruct, pool: np.ndarray) -> Any:
    shape, dtype = leaf.shape, leaf.dtype
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), shape)
    if dtype == np.uint8:
        return np.resize((40 * np.abs(pool) % 256).astype(np.uint8), shape)
    if np.issubdtype(dtype, np.integer):  # labels, rows, counts
        return np.resize((8 * np.abs(pool)).astype(np.int32) % 8, shape).astype(dtype)
    if "kernel" in name:
        fan_in = math.prod(shape[-4:-1]) if len(shape) > 3 else shape[-2]
        return np.resize(pool * math.sqrt(2 / fan_in), shape).astype(dtype)
    if any(word in name for word in ("scale", "var")):
        return np.ones(shape, dtype)
    if any(word in name for word in ("bias", "mean")):
        return np.zeros(shape, dtype)
    if "hyper" in name:
        return np.full(shape, 1e-3, dtype)
    # Images, features and radii are in [0, 1], like pixels.
    return np.resize((np.abs(pool) % 1).astype(dtype), shape)
