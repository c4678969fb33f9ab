"""Batches gathered from what lies on the device, compared with NumPy's indexing."""

import jax
import numpy as np
import pytest

from rtl_jax.train.stored import as_stored, gather

PLACES = np.array([3, 0, 3, 1], np.int32)


@pytest.mark.parametrize(
    ("shape", "dtype", "pieces"),
    [
        ((32, 32, 3), "uint8", 1),
        ((2048,), "float32", 1),
        ((14, 14, 1024), "float16", 1),
        ((28, 28, 512), "float16", 2),
        ((28, 28, 512), "float32", 4),
        # A prime number of rows of 128 numbers has no other pieces than these.
        ((1, 6521, 128), "float16", 6521),
        ((5, 70001, 3), "float32", 5),
    ],
    ids=str,
)
def test_images_are_gathered_whole(shape: tuple[int, ...], dtype: str, pieces: int) -> None:
    rng = np.random.default_rng(0)
    every = rng.integers(0, 200, (4, *shape)).astype(dtype)
    gathered = jax.jit(gather)(as_stored(every), PLACES)
    assert len(gathered) == pieces * len(PLACES)
    np.testing.assert_array_equal(gathered.reshape(-1, *shape), every[PLACES])
