"""The interface says what it is, and the examples of its documentation run."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import rtl_jax as rtl

pytestmark = pytest.mark.slow

DOCUMENTED = [
    "api.transfer",
    "api.robustness",
    "api.prediction",
    "api.explanation",
    "sklearn",
    "models.network",
]


def test_every_name_is_there_and_says_what_it_is() -> None:
    assert set(rtl.__all__) <= set(dir(rtl))
    for name in rtl.__all__:
        assert getattr(rtl, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'fine_tune'"):
        rtl.fine_tune  # noqa: B018


@pytest.mark.parametrize("module", DOCUMENTED)
def test_the_examples_of_docstrings_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"rtl_jax.{module}"))
    assert found.attempted > 4 and found.failed == 0


def test_the_examples_of_the_documentation_run() -> None:
    path = Path(__file__).parents[2] / "docs/python.md"
    found = doctest.testfile(str(path), module_relative=False)
    assert found.attempted > 20 and found.failed == 0


def test_reading_rows_needs_no_jax() -> None:
    script = "import sys, rtl_jax as rtl; rtl.read_rows; print('jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
