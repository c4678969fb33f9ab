"""Programs that tests start."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence


def known_flags(flags: Sequence[str]) -> str:
    """Return those flags that this jaxlib has. XLA aborts the process at an unknown one."""
    written = " ".join(f"--{flag}" for flag in flags)
    started = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": written},
        capture_output=True,
    )
    if started.returncode == 0:
        return written
    return " ".join(filter(None, (known_flags([flag]) for flag in flags))) if len(flags) > 1 else ""


def on_devices(number: int, **others: str) -> dict[str, str]:
    """Return the environment of a program that sees `number` devices and compiles like tests."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={number}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **others}


def on_hosts(number: int, devices: int = 1) -> list[dict[str, str]]:
    """Return the environments of programs that share the work, each with its own devices."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    return [
        on_devices(devices, RTL_JAX_HOSTS=f"{rank}/{number}", JAX_COORDINATOR_ADDRESS=address)
        for rank in range(number)
    ]


def run_python(script: str) -> str:
    """Run a script in a new Python in which warnings are errors; return what it prints."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], check=True, capture_output=True, text=True
    ).stdout
