"""FAB: the nearest point on a hyperplane and on a decision boundary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from rtl_jax.attacks import FAB, attack
from rtl_jax.attacks.threats import THREATS
from rtl_jax.errors import UserError
from tests.attacks.models import distance, linear, pictures

KEY = jax.random.key(0)
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def solved(norm: str, point: np.ndarray, normal: np.ndarray, gap: float) -> float:
    """Return the length of the smallest change with normal . change = -gap that stays in [0, 1]."""
    size = len(point)
    room = [*zip(-point, 1 - point, strict=True)]
    if norm == "l2":
        found = minimize(
            lambda d: (d**2).sum(),
            np.zeros(size),
            bounds=room,
            constraints={"type": "eq", "fun": lambda d: normal @ d + gap},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return float(np.sqrt(found.fun))
    # |d| <= t for every pixel (l1), or for all of them (linf); the sum of t is the length.
    number = size if norm == "l1" else 1
    bound = np.eye(size) if norm == "l1" else np.ones((size, 1))
    above = np.block([[np.eye(size), -bound], [-np.eye(size), -bound]])
    found = linprog(
        np.r_[np.zeros(size), np.ones(number)],
        above,
        np.zeros(2 * size),
        np.r_[normal, np.zeros(number)][None],
        [-gap],
        room + [(0, None)] * number,
    )
    return float(found.fun)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_nearest_point_of_a_hyperplane(norm: str) -> None:
    """Compared with linear and quadratic programs; some pixels at a bound, some of weight zero."""
    rng = np.random.default_rng(3)
    find = jax.jit(THREATS[norm].to_hyperplane)
    for number in range(8):
        point, normal = rng.uniform(size=7).round(1), rng.normal(size=7)
        normal[number % 7] = 0
        most = (np.where(normal > 0, point, 1 - point) * np.abs(normal)).sum()
        gap = float(rng.uniform(0.05, 0.9) * most)
        change = np.asarray(find(jnp.asarray(point), jnp.asarray(normal), jnp.asarray(gap)))
        assert (point + change >= -1e-6).all() and (point + change <= 1 + 1e-6).all()
        np.testing.assert_allclose(normal @ change, -gap, rtol=1e-4)
        expected = solved(norm, point, normal, gap)
        np.testing.assert_allclose(np.linalg.norm(change, ORDERS[norm]), expected, rtol=2e-3)


def test_a_hyperplane_out_of_reach_is_approached() -> None:
    """The result is the corner nearest to it."""
    point, normal = jnp.asarray([0.2, 0.7, 0.5]), jnp.asarray([1.0, -2.0, 0.0])
    for norm in ORDERS:
        change = THREATS[norm].to_hyperplane(point, normal, jnp.asarray(5.0))
        np.testing.assert_allclose(change[:2], [-0.2, 0.3], atol=1e-6)


@pytest.mark.parametrize("targets", [0, 9])
def test_a_linear_models_boundary(targets: int) -> None:
    """Images nearer than eps are broken, however small the difference; none leaves the ball."""
    w = (np.random.default_rng(0).normal(size=(8, 8, 3)) / 8).astype(np.float32)
    images = pictures(40, 8, 0.3, 0.7)
    bias = -0.5 * float(w.sum())
    score = np.asarray(images, np.float64).reshape(40, -1) @ w.ravel() + bias
    apart, eps = np.abs(score) / np.linalg.norm(w.ravel()), 0.08
    found = attack(linear(w, bias), images, (score > 0).astype(int), eps, FAB("l2", targets), KEY)
    sure = (apart < 0.99 * eps) | (apart > eps)
    np.testing.assert_array_equal(np.asarray(found.success)[sure], apart[sure] < eps)
    assert 0.2 < found.success.mean() < 0.8
    assert distance(found.images, images, "l2").max() <= eps + 1e-6


def test_settings_are_checked() -> None:
    for bad in (dict(norm="unconstrained"), dict(norm="l2", steps=0), dict(norm="l2", restarts=0)):
        with pytest.raises(UserError, match="FAB"):
            FAB(**bad)
