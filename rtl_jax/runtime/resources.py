"""Available memory, disk space and processor cores."""

import os
import shutil
from pathlib import Path


def host_free() -> int:
    """Return the bytes of host memory that a program can allocate now."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def device_free() -> int:
    """Return the free bytes of one device's memory; for a CPU, of host memory."""
    import jax  # Here, because `host_free` is used without JAX.

    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in statistics:
        return host_free()
    return statistics["bytes_limit"] - statistics["bytes_in_use"]


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def disk_free(directory: Path) -> int:
    """Return the free bytes on the disk of a directory, which is created if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(directory).free
