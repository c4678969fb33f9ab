"""The machine: its name, its precision, and where compiled programs are kept."""

from typing import Any

import jax
import jax.numpy as jnp

from rtl_jax.config import Precision
from rtl_jax.paths import cache_path


def enable_compilation_cache() -> None:
    """Keep compiled programs between processes, so that a second start is faster.

    Under RTL_JAX_CACHE_DIR (by default ~/.cache/rtl_jax); JAX's own setting, if there is
    one, wins.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_path() / "compiled"))


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
