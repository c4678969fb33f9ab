"""The Gaussian perturbation: its size and its distribution."""

import jax
import numpy as np
import pytest

from rtl_jax.attacks import Gaussian, attack
from rtl_jax.errors import UserError
from tests.attacks.models import distance, mlp, pictures

KEY = jax.random.key(5)
GREY = np.full((300, 8, 8, 3), 0.5, np.float32)
LABELS = np.zeros(300, int)
MODEL = mlp(pixels=192)


def test_in_the_papers_ball_it_is_a_point_of_the_sphere() -> None:
    """N(0, 1) per pixel has length 14 here; it is projected onto eps 1.5, in a random direction."""
    found = attack(MODEL, GREY, LABELS, 1.5, Gaussian("l2"), KEY)
    change = np.asarray(found.images) - GREY
    np.testing.assert_allclose(distance(found.images, GREY, "l2"), 1.5, rtol=1e-5)
    assert abs(change.mean()) < 0.002
    np.testing.assert_allclose(change.std(), 1.5 / 192**0.5, rtol=1e-3)
    assert abs(np.corrcoef(change[:, 0, 0, 0], change[:, 0, 0, 1])[0, 1]) < 0.2
    z = change.ravel() / change.std()
    assert abs((z**3).mean()) < 0.05 and abs((z**4).mean() - 3) < 0.15


def test_inside_the_ball_it_is_what_was_drawn() -> None:
    found = attack(MODEL, GREY, LABELS, 100.0, Gaussian("l2", sigma=0.05), KEY)
    change = np.asarray(found.images) - GREY
    np.testing.assert_allclose(change.std(), 0.05, rtol=0.01)
    found = attack(MODEL, GREY, LABELS, 0.05, Gaussian("linf", sigma=0.05), KEY)
    change = np.asarray(found.images) - GREY
    assert np.abs(change).max() <= 0.05 + 1e-6
    assert abs((np.abs(change) > 0.0499).mean() - 0.317) < 0.01  # beyond one sigma


def test_it_is_clamped_and_confirmed() -> None:
    images = pictures(50, 8)
    labels = np.asarray(MODEL(images).argmax(1))
    found = attack(MODEL, images, labels, 5.0, Gaussian("l2"), KEY)
    result = np.asarray(found.images)
    assert result.min() >= 0 and result.max() <= 1
    assert distance(result, images, "l2").max() <= 5 + 1e-6
    np.testing.assert_array_equal(found.success, np.asarray(MODEL(result)).argmax(1) != labels)


def test_settings_are_checked() -> None:
    with pytest.raises(UserError):
        Gaussian("unconstrained")
    with pytest.raises(UserError):
        Gaussian("l2", sigma=0.0)
