"""The machine: its name, its precision, its devices, and where compiled programs are kept."""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import cache_path
from rtl_jax.runtime.precision import Precision


def enable_compilation_cache() -> None:
    """Keep compiled programs between processes, so that a second start is faster.

    Under RTL_JAX_CACHE_DIR (by default ~/.cache/rtl_jax); JAX's own settings, if there are
    any, win.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_path() / "compiled"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # JAX keeps what took a second; a start consists of many programs that take less.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


def platform() -> str:
    """What programs are compiled for: 'cpu', 'gpu' or 'tpu'.

    `jax.default_device` says so where it is set, as it is for a device that this machine does not
    have; and what is traced below it is not taken for what was traced for another.
    """
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def compute_dtype(precision: Precision) -> jnp.dtype:
    """What blocks compute in; variables are float32 always."""
    return jnp.dtype(jnp.bfloat16 if precision == "bfloat16" else jnp.float32)


def matmul_precision(precision: Precision) -> Any:
    """A context in which matrix products have this precision.

    'float32' is full float32: a GPU's default would be TF32, which 'tf32' allows.
    """
    return jax.default_matmul_precision("highest" if precision == "float32" else "default")


def describe() -> dict[str, Any]:
    """The local accelerator, for the results: platform, kind and number of devices."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "device_kind": devices[0].device_kind,
        "num_devices": len(devices),
    }


def sum_over_devices(function: Callable[..., Any], shared: Any, parts: Any) -> Any:
    """The sum over the local devices of `function(shared, part)`, each on its own device.

    `parts` has a leading axis of one part for each. What `function` differentiates it
    differentiates there: inside a derivative the sum over devices would be differentiated with
    it, and come out wrong (a Hessian by more than its own size, where this was measured).
    """

    def summed(shared: Any, part: Any) -> Any:
        return jax.lax.psum(function(shared, part), "devices")

    sums = jax.pmap(summed, axis_name="devices", in_axes=(None, 0))(shared, parts)
    return jax.tree.map(lambda leaf: leaf[0], sums)


def join_hosts() -> None:
    """Join the other processes of one computation, where RTL_JAX_HOSTS says that there are some.

    'auto' leaves it to JAX, which knows Slurm, Open MPI, Kubernetes and Cloud TPUs; 'RANK/NUMBER',
    such as 0/4, names this process, and JAX_COORDINATOR_ADDRESS the address and port of the first.
    To be called before anything else of JAX. Raises UserError where they cannot be joined.
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
            "'RANK/NUMBER' beside JAX_COORDINATOR_ADDRESS=HOST:PORT; alone, leave it empty"
        ) from error


def require_devices() -> None:
    """Raise UserError where JAX_PLATFORMS names a platform that this machine does not have."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion of JAX's, for 'cuda' alone
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"JAX finds no device with JAX_PLATFORMS={platforms}"
            f"{f' ({error})' if str(error) else ''}: leave it empty to use what there is, or "
            "install what the platform needs, for a GPU pip install 'rtl-jax[cuda]'"
        ) from error


def wait_for_hosts(what: str) -> None:
    """Return when every host has come here; at once where there is one. `what` names the place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def batch_mesh() -> Mesh:
    """All devices of all hosts in one row, along which a batch is divided."""
    return jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """A pytree of arrays, the same on every host, whole on every device."""
    return _put(NamedSharding(mesh, PartitionSpec()), tree)


def divide(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
    """A pytree of arrays, the same on every host, divided along one axis."""
    return _put(_along(mesh, axis), tree)


def assemble(mesh: Mesh, tree: Any, axis: int = 0) -> Any:
    """A pytree of arrays of which each host holds its own part of one axis."""
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
    """Divide a pytree's first axis, the seeds, over this host's devices.

    `axes` is a prefix of the tree with 0 where there is such an axis and None where there is
    none; what has none is copied to every device. Nothing happens where there is one device,
    or no way to give each equally many seeds.
    """
    local = jax.local_devices()
    if len(local) == 1 or seeds % len(local):
        return tree
    mesh = Mesh(np.array(local), ("seeds",), axis_types=(AxisType.Auto,))

    def put(axis: int | None, part: Any) -> Any:
        spec = PartitionSpec() if axis is None else PartitionSpec("seeds")
        return jax.device_put(part, NamedSharding(mesh, spec))

    return jax.tree.map(put, axes, tree, is_leaf=lambda leaf: leaf is None)
