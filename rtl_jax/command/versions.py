"""The output of `rtl-jax --version`, to be included in bug reports."""

import os
import platform
from importlib import metadata

from rtl_jax.lab import results

# Packages that let JAX use an accelerator, listed if installed.
_PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu")


def versions() -> str:
    """Return the versions of this package and of those that it builds on, and the platform."""
    found = results.versions()
    python = found.pop("python")
    for name in _PLUGINS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    lines = [f"rtl_jax {found.pop('rtl_jax')}", *(" ".join(pair) for pair in found.items())]
    lines.append(f"Python {python} on {platform.platform()}")
    if chosen := os.environ.get("JAX_PLATFORMS"):
        lines.append(f"JAX_PLATFORMS={chosen}")
    return "\n".join(lines)
