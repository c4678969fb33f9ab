"""Maximising features: closed forms, the ball, and the choice of features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rtl_jax.attacks import PGD, attack
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Visualize
from rtl_jax.lab.visualize.features import choose_units, raise_features, require_units
from rtl_jax.models.model import bind, definition
from tests.lab.visualize.networks import ARCH, tiny

RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(size=(48, 6)).astype(np.float32)
SEARCH = PGD("l2", steps=40, relative_step=2.5, targeted=True, loss="logit", keep="last")
NETWORK = tiny(0)


def _linear(weights: jax.Array, images: jax.Array) -> jax.Array:
    return jnp.dot(images.reshape(len(images), -1), weights, precision="highest")


def test_a_linear_feature_is_raised_along_its_weights():
    """x0 + eps w / ||w||, as long as no pixel leaves [0, 1]."""
    images = RNG.uniform(0.4, 0.6, (6, 4, 4, 3)).astype(np.float32)
    units = np.array([5, 0, 1, 2, 3, 4])
    found = attack(Partial(_linear, jnp.asarray(WEIGHTS)), images, units, 0.5, SEARCH)
    w = WEIGHTS[:, units].T
    change = 0.5 * w / np.linalg.norm(w, axis=1, keepdims=True)
    expected = images + change.reshape(images.shape)
    assert expected.min() > 0 and expected.max() < 1
    np.testing.assert_allclose(found.images, expected, atol=1e-5)
    value = (expected.reshape(6, -1) * w).sum(1)
    np.testing.assert_allclose(-np.asarray(found.losses), value, rtol=1e-5)


def test_pixels_stop_at_black_and_white():
    """If eps is large enough, every pixel moves to the bound in the direction of its weight."""
    images = RNG.uniform(size=(2, 4, 4, 3)).astype(np.float32)
    found = attack(Partial(_linear, jnp.asarray(WEIGHTS)), images, np.array([2, 4]), 6e3, SEARCH)
    expected = (WEIGHTS[:, [2, 4]].T > 0).astype(float)
    np.testing.assert_allclose(np.asarray(found.images).reshape(2, -1), expected, atol=1e-5)


@jax.jit
def features(images: jax.Array) -> jax.Array:
    """Return the inputs of the head: the logits of a network whose head is the identity."""
    head = {"fc/kernel": jnp.eye(16), "fc/bias": jnp.zeros(16)}
    graphdef = definition(ARCH.replace(num_classes=16), method="xla")
    return bind(graphdef, NETWORK.params | head, NETWORK.batch_stats)(images)


def test_one_step_is_one_gradient_of_the_feature():
    originals = RNG.uniform(0.3, 0.7, (3, 8, 8, 3)).astype(np.float32)
    settings = Visualize(units=(3, 11), eps=0.25, steps=1, relative_step=1.0)
    found = raise_features(NETWORK, jnp.asarray(originals), settings)
    assert found.units.tolist() == [[3, 3, 3], [11, 11, 11]]
    for rank, unit in enumerate(settings.units):
        slope = np.asarray(jax.vjp(features, originals)[1](jnp.eye(16)[jnp.full(3, unit)])[0])
        length = np.linalg.norm(slope.reshape(3, -1), axis=1)[:, None, None, None]
        expected = originals + 0.25 * slope / np.maximum(length, 1e-10)
        np.testing.assert_allclose(found.images[rank], expected, atol=2e-5)
        np.testing.assert_allclose(found.before[rank], features(originals)[:, unit], rtol=1e-4)
        after = features(found.images[rank])[:, unit]
        np.testing.assert_allclose(found.after[rank], after, rtol=1e-4, atol=1e-6)
    assert (found.after > found.before).any() and (found.after >= found.before - 1e-6).all()
    assert found.titles(1)[0] == f"11: {found.before[1, 0]:.2f} to {found.after[1, 0]:.2f}"


def test_units_are_named_or_chosen():
    seen = RNG.normal(size=(5, 16))
    chosen = choose_units(NETWORK, seen, Visualize(num_units=3))
    for image in range(5):
        assert chosen[:, image].tolist() == sorted(range(16), key=lambda u: -seen[image, u])[:3]
    weights = NETWORK.params["fc/kernel"]
    chosen = choose_units(NETWORK, seen, Visualize(num_units=2, label=1))
    best = sorted(range(16), key=lambda unit: -weights[unit, 1])[:2]
    assert chosen.tolist() == [[unit] * 5 for unit in best]
    chosen = choose_units(NETWORK, seen, Visualize(units=(9, 2)))
    assert chosen.tolist() == [[9] * 5, [2] * 5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Visualize(units=(3, 16)), "visualize.units: expected features from 0 to 15.*received 16"),
        (Visualize(num_units=17), "visualize.num_units: expected at most the 16 features of it"),
        (Visualize(label=3), "visualize.label: expected a class from 0 to 2 of it, received 3"),
    ],
)
def test_what_a_network_has_not(settings: Visualize, message: str):
    with pytest.raises(UserError, match=message):
        require_units(ARCH, settings, "it")
