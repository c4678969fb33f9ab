"""Devices, precision, multiple hosts, and the cache of compiled programs."""

import contextlib
import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rtl_jax.errors import UserError
from rtl_jax.runtime import resources
from rtl_jax.runtime.paths import cache_path
from rtl_jax.runtime.precision import Precision


def enable_compilation_cache() -> None:
    """Cache compiled programs between processes, so that a second start is faster.

    The cache is under RTL_JAX_CACHE_DIR (by default ~/.cache/rtl_jax); JAX's own settings take
    precedence.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_path() / "compiled"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # By default JAX caches programs that took a second; a start compiles many smaller ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


def platform() -> str:
    """Return the platform that programs are compiled for: 'cpu', 'gpu' or 'tpu'.

    `jax.default_device` determines it if set, for example to a device that this machine does not
    have. It is part of JAX's tracing cache key, so traces for different platforms are not confused.
    """
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def compute_dtype(precision: Precision) -> jnp.dtype:
    """Return the dtype in which blocks compute; variables are always float32."""
    return jnp.dtype(jnp.bfloat16 if precision == "bfloat16" else jnp.float32)


def matmul_precision(precision: Precision) -> Any:
    """Return a context in which matrix products have this precision.

    'float32' is full float32; a GPU's default would be TF32, which 'tf32' allows.
    """
    return jax.default_matmul_precision("highest" if precision == "float32" else "default")


def describe() -> dict[str, Any]:
    """Describe the local accelerator for the results: platform, kind and number of devices."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "num_devices": len(devices),
    }


def sum_over_devices(function: Callable[..., Any], shared: Any, parts: Any) -> Any:
    """Sum `function(shared, part)` over the local devices, each computing its own part.

    `parts` has a leading axis with one part per device. Differentiate inside `function`, not
    outside: differentiating through the sum over devices gives wrong results (a Hessian was off by
    more than its own size).
    """
    # Without a choice, pmap would sum over the devices of all hosts, which all have every part.
    local = jax.local_devices()[: len(jax.tree.leaves(parts)[0])]
    results = mapped_over_devices(function, local)(shared, parts)
    if not _sums_on_devices():
        return jax.tree.map(_sum_of_shards, results)
    return jax.tree.map(lambda leaf: leaf[0], results)


def mapped_over_devices(function: Callable[..., Any], on: Sequence[jax.Device]) -> Any:
    """Return the program of `sum_over_devices` for these devices.

    Its results have a leading axis of devices. Each device has the sum or, on TPUs, its own part.
    """

    def summed(shared: Any, part: Any) -> Any:
        found = function(shared, part)
        return jax.lax.psum(found, "devices") if _sums_on_devices() else found

    return jax.pmap(summed, axis_name="devices", in_axes=(None, 0), devices=on)


def _sums_on_devices() -> bool:
    """Whether devices exchange their parts of a sum; otherwise, the host adds them.

    TPUs emulate float64, whose sums over devices become all-gathers: with eight chips, the memory
    of each would hold the parts of all eight.
    """
    return platform() != "tpu"


def _sum_of_shards(leaf: jax.Array) -> np.ndarray:
    """Add the devices' parts, [1, ...] each, holding two at a time."""
    first, *others = (shard.data for shard in leaf.addressable_shards)
    total = np.array(first[0])
    for part in others:
        total += np.asarray(part[0])
    return total


def join_hosts() -> None:
    """Join the other processes of a multi-host computation, if RTL_JAX_HOSTS is set.

    'auto' leaves this to JAX, which knows Slurm, Open MPI, Kubernetes and Cloud TPUs;
    'RANK/NUMBER', such as 0/4, identifies this process, and JAX_COORDINATOR_ADDRESS is the address
    and port of the first. Call this before any other function of JAX. Raises UserError if joining
    fails.
    """
    hosts = os.environ.get("RTL_JAX_HOSTS")
    if not hosts or jax.distributed.is_initialized():
        return
    try:
        if hosts == "auto":
            jax.distributed.initialize()
        else:
            rank, number = map(int, hosts.split("/"))
            jax.distributed.initialize(num_processes=number, process_id=rank)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"RTL_JAX_HOSTS={hosts}: the hosts cannot be joined ({error}). Expected 'auto', or "
            "'RANK/NUMBER' with JAX_COORDINATOR_ADDRESS=HOST:PORT; with one host, leave it empty"
        ) from error


def divide_cpu(seeds: int) -> None:
    """Let JAX see several devices in a CPU, at most one in each core, to divide seeds over them.

    Otherwise XLA leaves a sixth of the cores' time unused in attacks (docs/benchmarks.md).
    JAX_NUM_CPU_DEVICES or XLA_FLAGS take precedence, and nothing changes once JAX has started.
    """
    asked = jax.config.jax_num_cpu_devices >= 0  # type: ignore[attr-defined]
    if asked or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    with contextlib.suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_num_cpu_devices", fewest_rounds(seeds, resources.cores()))


def fewest_rounds(seeds: int, most: int) -> int:
    """Return on how many devices, at most `most`, seeds train in the fewest programs.

    A program has a seed for each device, or a single one if not enough are left.
    """
    return min(range(1, most + 1), key=lambda number: seeds // number + seeds % number)


def require_devices() -> None:
    """Raise UserError if JAX_PLATFORMS names a platform that this machine does not have."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX raises AssertionError only for 'cuda'
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"JAX finds no device with JAX_PLATFORMS={platforms}"
            f"{f' ({error})' if str(error) else ''}: leave it empty to use what there is, or "
            "install what the platform needs, for a GPU pip install 'rtl-jax[cuda]'"
        ) from error


def wait_for_hosts(what: str) -> None:
    """Wait until every host has called this; a single host does not wait. `what` is the barrier."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def require_same(what: str, text: str, hint: str) -> None:
    """Raise UserError on all hosts, naming `what`, unless all of them have the same `text`."""
    if jax.process_count() == 1:
        return
    every = multihost_utils.process_allgather(np.asarray(zlib.crc32(text.encode()), np.uint32))
    if len(set(every.tolist())) > 1:
        raise UserError(f"{what} differs between the hosts, and is {text} on this one: {hint}")


def any_host(value: bool) -> jax.Array:
    """Return whether `value` is true on any host, int32 [], the same on all of them.

    All must call this after the same computations. It does not wait for the answer.
    """
    mine = np.full(jax.local_device_count(), value, np.int32)
    return _largest(assemble(batch_mesh(), mine))


_largest = jax.jit(jnp.max)


def batch_mesh() -> Mesh:
    """Return a one-dimensional mesh of all devices of all hosts, for dividing batches."""
    return jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Replicate a pytree of arrays, the same on every host, on every device."""
    return _put(NamedSharding(mesh, PartitionSpec()), tree)


def divide(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
    """Divide a pytree of arrays, the same on every host, along one axis."""
    return _put(_along(mesh, axis), tree)


def assemble(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
    """Assemble global arrays from each host's part along one axis."""
    sharding = _along(mesh, axis)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree
    )


def _along(mesh: Mesh, axis: int) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "batch"))


def _put(sharding: NamedSharding, tree: Any) -> Any:
    def put(leaf: Any) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)

    return jax.tree.map(put, tree)


def seeds_apart(tree: Any, seeds: int, axes: Any = 0) -> Any:
    """Divide a pytree's leading seed axis over this host's devices.

    `axes` is a prefix of the tree with 0 for arrays with a seed axis and None for arrays without
    one, which are copied to every device. Does nothing with a single device, or if the seeds cannot
    be divided equally.
    """
    local = jax.local_devices()
    if len(local) == 1 or seeds % len(local):
        return tree
    mesh = Mesh(np.array(local), ("seeds",), axis_types=(AxisType.Auto,))

    def put(axis: int | None, part: Any) -> Any:
        spec = PartitionSpec() if axis is None else PartitionSpec("seeds")
        return jax.device_put(part, NamedSharding(mesh, spec))

    return jax.tree.map(put, axes, tree, is_leaf=lambda leaf: leaf is None)
