"""Tests run on the CPU, except those marked `gpu`, whose platform JAX chooses itself."""

import gc
import mmap
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import known_flags

# A quarter less of the processor's time than with optimization_level alone (attacks' tests), and
# LLVM in one part another tenth (tests of training).
QUICK = (
    "xla_backend_optimization_level=0",
    "xla_cpu_use_fusion_emitters=false",
    "xla_cpu_parallel_codegen_split_count=1",
)


def pytest_configure(config: pytest.Config) -> None:
    # JAX, torch and TensorFlow are a million objects that live as long as the process.
    gc.set_threshold(20_000, 20, 50)
    # Before anything imports torch. Its threads spin while they wait for each other, on cores that
    # the other test process wants.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Before any test module imports JAX. On a machine with an accelerator the other tests
    # still compare CPU with CPU, as their tolerances mean them to.
    if config.getoption("-m") != "gpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        # Most of what tests take is LLVM's time, for programs that run once or twice.
        if "XLA_FLAGS" not in os.environ:
            os.environ["XLA_FLAGS"] = known_flags(QUICK)
    # Programs are kept for all modules and for the processes that tests start: many are the same.
    # Each process of tests has its own, for what another one is still writing cannot be read.
    compiled = tempfile.mkdtemp(prefix="rtl_jax_compiled_")
    config.add_cleanup(lambda: shutil.rmtree(compiled, ignore_errors=True))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"


# The files that take longest, which begin first: begun last, one process would wait for another.
LONGEST = (
    "test_study",
    "test_finetune",
    "test_autoattack",
    "test_sweep",
    "test_tutorial",
    "test_readme_commands",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first, the longest before the others; the order within a file is kept."""

    def place(item: pytest.Item) -> int:
        if item.path.stem in LONGEST:
            return LONGEST.index(item.path.stem)
        return len(LONGEST) + (item.get_closest_marker("slow") is None)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def heeds_ctrl_c() -> None:
    """Enable Ctrl-C even if the tests are a background job of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's caches out of the tests."""
    os.environ["RTL_JAX_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


# A process may have 65,530 memory maps, of which every compiled program takes some: with the
# programs of all modules together XLA aborted.
MOST_MAPS = 25_000
MOST_BYTES = 3 * 2**30


def crowded() -> bool:
    """Whether compiled programs take many memory maps, or much memory; unknown is taken for yes."""
    try:
        maps = Path("/proc/self/maps").read_bytes().count(b"\n")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return True
    return maps > MOST_MAPS or pages * mmap.PAGESIZE > MOST_BYTES


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Forget compiled programs at the end of a module when there are too many.

    Until then they are kept, for many modules trace and compile the same ones.
    """
    yield
    if "jax" in sys.modules and crowded():
        sys.modules["jax"].clear_caches()
