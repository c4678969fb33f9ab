"""What the tests of the interface share: digits, and an untrained source."""

import pytest

import rtl_jax as rtl
from rtl_jax.data.sources import load_dataset
from tests.api.settings import SOURCE


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits", data_dir=None, image_size=8)


@pytest.fixture(scope="session")
def source() -> rtl.Network:
    network = rtl.load("random", seed=1, **SOURCE)
    return network.replace(provenance={**network.provenance, "image_size": 8})
