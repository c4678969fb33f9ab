"""How much memory and disk there is to use."""

import os
import shutil
from pathlib import Path


def host_free() -> int:
    """Bytes of host memory that a program could take now."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # no Linux
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def device_free() -> int:
    """Bytes of one device's memory that are not taken; a CPU's is the host's."""
    import jax  # Here, because the host's memory is asked for where JAX is not needed.

    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in statistics:
        return host_free()
    return statistics["bytes_limit"] - statistics["bytes_in_use"]


def disk_free(directory: Path) -> int:
    """Bytes free on the disk of a directory, which is made if it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(directory).free
