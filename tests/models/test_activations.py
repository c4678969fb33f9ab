"""Activations and their gradients compared with torch's, at bounds and at NaN."""

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional

from rtl_jax.models.activations import ACTIVATIONS

VALUES = np.array([-8, -1.5, 0, 0.5, 3, 6, 7, np.nan], np.float32)


@pytest.mark.parametrize("name", ["relu", "relu6", "silu", "gelu"])
def test_values_and_gradients_are_torchs(name: str) -> None:
    inputs = torch.from_numpy(VALUES).requires_grad_()
    expected = getattr(functional, name)(inputs)
    expected.sum().backward()
    np.testing.assert_allclose(ACTIVATIONS[name](VALUES), expected.detach(), atol=1e-6)
    gradients = jax.vmap(jax.grad(ACTIVATIONS[name]))(VALUES[:-1])
    np.testing.assert_allclose(gradients, inputs.grad[:-1], atol=1e-6)
