"""The hardware and software behind a measurement."""

import datetime
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from rtl_jax.runtime.resources import cores

PACKAGES = ("jax", "flax", "torch")


def describe() -> dict[str, Any]:
    """Describe processor, accelerator, versions, date and load (average of the last minute)."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "accelerator": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "date": datetime.date.today().isoformat(),
        "load": round(os.getloadavg()[0], 1),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()
