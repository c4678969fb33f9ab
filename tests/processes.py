"""Environments of programs that tests start."""

import os


def on_devices(number: int, **others: str) -> dict[str, str]:
    """Return the environment of a program that sees `number` devices and compiles like tests."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={number}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **others}
