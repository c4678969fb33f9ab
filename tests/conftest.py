"""The CPU for every test but those marked `gpu`, whose platform JAX chooses itself."""

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # Before any test module imports JAX. On a machine with an accelerator the other tests
    # still compare CPU with CPU, as their tolerances mean them to.
    if config.getoption("-m") != "gpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing that a user's earlier runs have cached reaches a test; a program compiles once."""
    os.environ["RTL_JAX_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    import jax

    from rtl_jax.devices import enable_compilation_cache

    enable_compilation_cache()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
