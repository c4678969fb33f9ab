"""Input gradients against finite differences; their roughness against hand-made fields."""

import jax.numpy as jnp
import numpy as np
import pytest

from rtl_jax.attacks.gradients import input_gradients, total_variation
from rtl_jax.attacks.losses import cross_entropy
from tests.attacks.models import mlp, pictures


def test_input_gradients_are_those_of_each_images_loss():
    logits_fn, images, labels = mlp(), pictures(3).astype(np.float64), np.array([0, 3, 1])
    found = np.asarray(input_gradients(logits_fn, jnp.asarray(images), labels))
    step = 1e-2
    for place in [(0, 0, 0), (1, 2, 1), (3, 3, 2)]:
        moved = []
        for sign in (1, -1):
            changed = images.copy()
            changed[(slice(None), *place)] += sign * step
            moved.append(np.asarray(cross_entropy(logits_fn(jnp.asarray(changed)), labels)))
        slope = (moved[0] - moved[1]) / (2 * step)
        np.testing.assert_allclose(found[(slice(None), *place)], slope, rtol=2e-2, atol=1e-4)


def test_total_variation():
    flat = np.full((1, 8, 8, 3), -2.0)
    checks = np.indices((8, 8)).sum(0) % 2 * 2.0 - 1  # 1 and -1: a step of 2 to each neighbour
    noise = np.random.default_rng(0).normal(size=(1, 200, 200, 3))
    assert total_variation(jnp.asarray(flat))[0] == 0
    expected = 2 * (7 * 8 * 2) / 64
    found = total_variation(jnp.asarray(checks[None, :, :, None]))
    assert float(found[0]) == pytest.approx(expected)
    assert float(total_variation(jnp.asarray(noise))[0]) == pytest.approx(2 * 2**0.5, rel=0.02)
    assert float(total_variation(jnp.asarray(1e-3 * noise))[0]) == pytest.approx(2.8, abs=0.05)
