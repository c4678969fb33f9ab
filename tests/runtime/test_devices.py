"""Devices of a CPU, in new processes, since JAX counts them once."""

import os
import subprocess
import sys

import pytest

from rtl_jax.runtime import devices
from rtl_jax.runtime.resources import cores
from rtl_jax.train.parallel import divided
from tests.processes import known_flags, on_hosts

COUNT = """
import jax
from rtl_jax.runtime import devices
{before}
devices.divide_cpu(12)
print(jax.local_device_count())
"""


def counted(before: str = "", **environment: str) -> int:
    """Divide the CPU after `before`; return the number of devices."""
    asked = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    clean = {name: value for name, value in os.environ.items() if name not in asked}
    script = COUNT.format(before=before)
    found = subprocess.run(
        [sys.executable, "-c", script],
        env=clean | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(found.stdout)


def test_a_cpu_is_divided_into_cores() -> None:
    assert counted() == devices.fewest_rounds(12, cores()) <= cores()


@pytest.mark.parametrize(
    "seeds, most, number", [(1, 8, 1), (5, 2, 2), (5, 8, 5), (20, 2, 2), (20, 8, 5), (10, 4, 3)]
)
def test_seeds_take_the_fewest_rounds(seeds: int, most: int, number: int) -> None:
    assert devices.fewest_rounds(seeds, most) == number
    rounds = [len([*divided(seeds, 1, each)]) for each in range(1, most + 1)]
    assert rounds[number - 1] == min(rounds)


@pytest.mark.parametrize(
    "environment",
    [{"JAX_NUM_CPU_DEVICES": "3"}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}],
)
def test_what_the_user_asks_for_takes_precedence(environment: dict[str, str]) -> None:
    assert counted(**environment) == 3


def test_nothing_changes_once_jax_has_started() -> None:
    assert counted("jax.devices()") == 1


ON_A_HOST = """
from rtl_jax.errors import UserError
from rtl_jax.runtime import devices
devices.join_hosts()
import jax
devices.require_same("the step", "5", "share it")
try:
    devices.require_same("the step", str(jax.process_index()), "share it")
except UserError as error:
    print(error)
"""


def test_hosts_that_differ_say_so() -> None:
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", ON_A_HOST], env=environment, stdout=subprocess.PIPE, text=True
        )
        for environment in on_hosts(2)
    ]
    for rank, process in enumerate(hosts):
        (said,) = process.communicate(timeout=300)[0].splitlines()[-1:]
        assert said == f"the step differs between the hosts, and is {rank} on this one: share it"


def test_the_tests_take_only_flags_that_xla_knows() -> None:
    flags = ["xla_of_another_version=1", "xla_backend_optimization_level=0"]
    assert known_flags(flags) == "--xla_backend_optimization_level=0"
    assert known_flags(flags[:1]) == ""
