"""Programs that tests start."""

import os
import subprocess
import sys


def on_devices(number: int, **others: str) -> dict[str, str]:
    """Return the environment of a program that sees `number` devices and compiles like tests."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={number}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **others}


def run_python(script: str) -> str:
    """Run a script in a new Python in which warnings are errors; return what it prints."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], check=True, capture_output=True, text=True
    ).stdout
