"""The published corruptions: the package `imagecorruptions`, with replaced random numbers.

The package was written for older versions of its dependencies; `load` adapts it.
"""

import contextlib
import functools
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest


@functools.cache
def load() -> Any:
    """Load the package's module of corruptions; skip the test if it is not installed."""
    filters = pytest.importorskip("skimage.filters")
    pytest.importorskip("cv2")
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda *_: ""  # of photographs of frost
    interpolation = types.ModuleType("scipy.ndimage.interpolation")
    interpolation.map_coordinates = None
    stand_ins = {"pkg_resources": resources, "scipy.ndimage.interpolation": interpolation}
    with mock.patch.dict(sys.modules, stand_ins):
        module = pytest.importorskip("imagecorruptions.corruptions")

    def gaussian(image: np.ndarray, sigma: float, multichannel: bool = False, **other):
        axis = -1 if multichannel else None
        return filters.gaussian(image, sigma=sigma, channel_axis=axis, **other)

    module.gaussian = gaussian
    return module


@contextlib.contextmanager
def drawing(rng: np.random.Generator, dtype: type) -> Iterator[None]:
    """Draw the package's NumPy random numbers from `rng`, normal ones with `dtype`."""
    with contextlib.ExitStack() as stack:
        for name, draw in {
            "uniform": rng.uniform,
            "normal": lambda size, loc=0, scale=1: loc + scale * rng.standard_normal(size, dtype),
            "poisson": rng.poisson,
        }.items():
            stack.enter_context(mock.patch.object(np.random, name, draw))
        stack.enter_context(mock.patch.object(np, "float_", float, create=True))
        yield
