"""Devices of a CPU, in new processes, since JAX counts them once."""

import subprocess
import sys

import pytest

from rtl_jax.runtime.resources import cores
from tests.processes import on_devices

COUNT = """
import jax
from rtl_jax.runtime import devices
{before}
devices.divide_cpu()
print(jax.local_device_count())
"""


def counted(before: str = "", **environment: str) -> int:
    """Divide the CPU after `before`; return the number of devices."""
    clean = {name: value for name, value in on_devices(1).items() if name != "XLA_FLAGS"}
    script = COUNT.format(before=before)
    found = subprocess.run(
        [sys.executable, "-c", script],
        env=clean | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(found.stdout)


def test_a_cpu_is_divided_into_its_cores() -> None:
    assert counted() == cores()


@pytest.mark.parametrize(
    "environment",
    [{"JAX_NUM_CPU_DEVICES": "3"}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}],
)
def test_what_the_user_asks_for_takes_precedence(environment: dict[str, str]) -> None:
    assert counted(**environment) == 3


def test_nothing_changes_once_jax_has_started() -> None:
    assert counted("jax.devices()") == 1
