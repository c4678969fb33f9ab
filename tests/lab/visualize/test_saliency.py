"""Input gradients compared with closed forms and finite differences; roughness of given fields."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rtl_jax.attacks.losses import cross_entropy
from rtl_jax.data import ImageSet
from rtl_jax.lab.visualize.saliency import (
    BATCH,
    gradients,
    input_gradients,
    prepared,
    total_variation,
    visible,
)
from tests.attacks.models import mlp, pictures

RNG = np.random.default_rng(5)
WEIGHTS = RNG.normal(size=(48, 4)).astype(np.float32)


def _linear(weights: jax.Array, images: jax.Array) -> jax.Array:
    return jnp.dot(images.reshape(len(images), -1), weights, precision="highest")


def test_gradients_of_a_linear_network():
    """(p - y) W' for cross-entropy, minus the label's weights for -z_y."""
    images, labels = pictures(5), np.array([0, 3, 1, 2, 2])
    logits = images.reshape(5, -1).astype(float) @ WEIGHTS
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = (p - np.eye(4)[labels]) @ WEIGHTS.T
    model = Partial(_linear, jnp.asarray(WEIGHTS))
    found = np.asarray(input_gradients(model, jnp.asarray(images), labels))
    np.testing.assert_allclose(found.reshape(5, -1), expected, rtol=1e-4, atol=1e-5)
    found = np.asarray(input_gradients(model, jnp.asarray(images), labels, "logit"))
    np.testing.assert_allclose(found.reshape(5, -1), -WEIGHTS[:, labels].T, rtol=1e-6)


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


def test_batches_are_the_whole_in_order():
    number = BATCH + 3
    images = RNG.integers(0, 256, (number, 4, 4, 3), dtype=np.uint8)
    labels = (np.arange(number) % 4).astype(np.int32)
    logits_fn = mlp()
    parts = list(gradients(logits_fn, prepared(ImageSet(images, labels), 4)))
    assert [len(part) for part in parts] == [BATCH, 3]
    whole = input_gradients(logits_fn, jnp.asarray(images, jnp.float32) / 255, labels)
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-3, atol=1e-6)


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


def test_grey_is_nothing_and_signs_are_kept():
    field = np.zeros((2, 4, 4, 3), np.float32)
    field[1, 0, 0, 0], field[1, 0, 1, 0] = 1, -1
    shown = visible(field)
    assert (shown[0] == 0.5).all() and shown[1, 3, 3, 0] == 0.5
    assert shown[1, 0, 0, 0] == 1 and shown[1, 0, 1, 0] == 0
    scaled = visible(np.random.default_rng(0).normal(size=(1, 8, 8, 3)) * 0.25)
    assert 0 <= scaled.min() < 0.2 and 0.8 < scaled.max() <= 1
