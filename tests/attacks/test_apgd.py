"""Auto-PGD: its schedule, losses and steps, and the L1 ball."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.optimize import minimize

from rtl_jax.attacks import APGD, PGD, attack
from rtl_jax.attacks.losses import dlr_targeted, top_other_classes
from rtl_jax.attacks.schedules import AdaptiveSparsity, Balls, Halving, Maximum, StepSize
from rtl_jax.attacks.threats import L1, Linf
from rtl_jax.errors import UserError
from tests.attacks.models import distance, linear, mlp, pictures

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


# ---- The L1 ball -------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.3, 1.0, 2.0])
def test_the_nearest_point_of_ball_and_box(eps: float) -> None:
    """Compared with a general solver: the change d with |d|_1 <= eps and 0 <= image + d <= 1."""
    rng = np.random.default_rng(0)
    for _ in range(4):
        original = rng.uniform(size=6).round(1)  # some pixels on the edge
        wanted = original + rng.normal(size=6)
        # |d|_1 as the sum of what rises and what falls, both 0 or more.
        solved = minimize(
            lambda d, o=original, w=wanted: ((o + d[:6] - d[6:] - w) ** 2).sum(),
            np.full(12, eps / 24),
            bounds=[(0, room) for room in (*(1 - original), *original)],
            constraints={"type": "ineq", "fun": lambda d: eps - d.sum()},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        expected = original + solved.x[:6] - solved.x[6:]
        image, base = jnp.asarray(wanted, jnp.float32), jnp.asarray(original, jnp.float32)
        found = L1().project(image, base, jnp.asarray(eps, jnp.float32))
        np.testing.assert_allclose(found, expected, atol=2e-4)
        assert np.abs(np.float64(found) - np.float64(base)).sum() <= eps


def test_what_lies_inside_stays() -> None:
    images = pictures(3)
    moved = np.clip(images + 0.01, 0, 1)
    found = jax.vmap(L1().project, (0, 0, None))(moved, images, jnp.asarray(5.0))
    np.testing.assert_allclose(found, moved, atol=1e-6)


def test_a_step_moves_the_steepest_pixels() -> None:
    gradient = jnp.asarray([0.1, -4.0, 3.0, 0.0, -0.2, 0.3, 0.5, -1.0, 0.6, 0.7])
    step = L1().sparse_step(gradient, jnp.asarray(2.0), 0.2)
    np.testing.assert_allclose(step, [0, -1, 1, 0, 0, 0, 0, 0, 0, 0])


# ---- The schedule ------------------------------------------------------------------------------


def test_checkpoints_are_the_papers() -> None:
    """p_j of section 3.1 of Croce and Hein (2020), for 100 steps: 0.22, 0.41, 0.57, ..."""
    checkpoints = np.asarray(Halving().stages(100).checkpoints[0])
    np.testing.assert_array_equal(np.flatnonzero(checkpoints), [22, 41, 57, 70, 80, 87, 93, 99])
    np.testing.assert_array_equal(checkpoints[checkpoints > 0], [22, 19, 16, 13, 10, 7, 6, 6])
    l1 = AdaptiveSparsity().stages(100)
    assert list(l1.factor) == [3, 2, 1] and list(l1.steps) == [30, 30, 40]


def test_a_step_is_halved_by_either_condition() -> None:
    """Too few increasing steps, or a maximum unchanged since a checkpoint without halving."""
    increases = jnp.asarray([6.0, 7.0, 8.0, 8.0, 8.0])  # of 8: 0.75 are 6
    reduced = jnp.asarray([False, False, False, True, False])
    before = jnp.asarray([0.0, 0.0, 1.0, 1.0, 0.5])
    now = jnp.ones(5)
    step = StepSize(jnp.full(5, 0.4), jnp.zeros(5), increases, reduced, before)
    nothing = jnp.zeros((5, 1))
    maximum, balls = Maximum(nothing, now, nothing), Balls(Linf(), nothing, now)
    after, back = Halving().checkpoint(step, jnp.asarray(8), maximum, balls)
    np.testing.assert_array_equal(back, [True, False, True, False, False])
    np.testing.assert_allclose(after.size, [0.2, 0.4, 0.2, 0.4, 0.4])
    np.testing.assert_array_equal(after.reduced, back)
    np.testing.assert_array_equal(after.increases, np.zeros(5))


def test_targeted_dlr_is_equation_7() -> None:
    logits = np.random.default_rng(1).normal(size=(5, 6))
    labels = np.array([0, 1, 2, 3, 4])
    goals = np.asarray(top_other_classes(jnp.asarray(logits), jnp.asarray(labels), 3))[:, 2]
    for row, label, goal in zip(logits, labels, goals, strict=True):
        others = np.delete(row, label)
        assert row[goal] == np.sort(others)[-3]
        top = np.sort(row)[::-1]
        expected = -(row[label] - row[goal]) / (top[0] - (top[2] + top[3]) / 2)
        found = dlr_targeted(*map(jnp.asarray, (row[None], np.array([label]), np.array([goal]))))
        np.testing.assert_allclose(found[0], expected, rtol=1e-5)


# ---- What it finds -----------------------------------------------------------------------------


def test_a_linear_models_worst_case() -> None:
    """APGD breaks exactly the images that can be broken, and stops there."""
    norm, dual, eps = "l2", 2, 0.08
    w = (np.random.default_rng(0).normal(size=(8, 8, 3)) / 8).astype(np.float32)
    images = pictures(40, 8, 0.3, 0.7)
    bias = -0.5 * float(w.sum())
    score = np.asarray(images, np.float64).reshape(40, -1) @ w.ravel() + bias
    labels = (score > 0).astype(int)
    worst = np.abs(score) - eps * np.linalg.norm(w.ravel(), ord=dual)
    found = attack(linear(w, bias), images, labels, eps, APGD(norm, steps=30), KEY)
    np.testing.assert_array_equal(found.success, worst < 0)
    assert 0.2 < found.success.mean() < 0.8
    margins = np.abs(np.asarray(found.images, np.float64).reshape(40, -1) @ w.ravel() + bias)
    withstood = worst >= 0  # where the best iterate is kept, in the corner of the ball
    np.testing.assert_allclose(margins[withstood], worst[withstood], atol=1e-4)
    assert distance(found.images, images, norm).max() <= eps + 1e-6


def test_a_network_that_shouts_is_no_safer() -> None:
    """With logits times 1,000, PGD's gradient vanishes; DLR and its direction do not change."""
    quiet, loud = mlp(classes=10, scale=2.0), mlp(classes=10, scale=2000.0)
    images = pictures(40)
    labels = np.asarray(quiet(images).argmax(1))
    dlr = APGD("linf", loss="dlr", steps=20)
    expected = attack(quiet, images, labels, 0.05, dlr, KEY)
    found = attack(loud, images, labels, 0.05, dlr, KEY)
    assert 0.2 < expected.success.mean() < 0.9
    assert abs(float(found.success.mean() - expected.success.mean())) < 0.05
    assert (
        attack(loud, images, labels, 0.05, PGD("linf", steps=5)).success.mean()
        < 0.6 * found.success.mean()
    )


def _noisy(weights: jax.Array, images: jax.Array, key: jax.Array) -> jax.Array:
    """Two classes, with noise larger than the difference between them."""
    score = images.reshape(len(images), -1) @ weights
    return jnp.stack([jnp.zeros_like(score), score + jax.random.normal(key, score.shape)], axis=1)


def test_a_random_network_is_attacked_in_expectation() -> None:
    """Success is decided by the mean of the draws, independently of the batch."""
    drawn = np.random.default_rng(0).normal(size=48)
    weights = jnp.asarray(2 * (drawn - drawn.mean()), jnp.float32)
    images = pictures(24) * 0.4 + 0.3
    score = np.asarray(images.reshape(24, -1) @ weights)
    labels = (score > 0).astype(int)
    settings = APGD("linf", steps=8, passes=50)
    found = attack(Partial(_noisy, weights), images, labels, 0.015, settings, KEY)
    worst = np.abs(score) - 0.015 * np.abs(np.asarray(weights)).sum()
    clear = np.abs(worst) > 0.6  # the mean of 50 draws moves by 0.14
    np.testing.assert_array_equal(np.asarray(found.success)[clear], worst[clear] < 0)
    assert (worst[clear] < 0).sum() > 2 and (worst[clear] > 0).sum() > 2
    order = np.array([5, 0, 9])
    part = attack(
        Partial(_noisy, weights), images[order], labels[order], 0.015, settings, KEY, indices=order
    )
    np.testing.assert_array_equal(part.success, np.asarray(found.success)[order])
    np.testing.assert_allclose(part.images, np.asarray(found.images)[order], atol=1e-5)


def test_settings_are_checked() -> None:
    for bad in (
        dict(norm="unconstrained"),
        dict(norm="l2", loss="margin"),
        dict(norm="l2", steps=0),
        dict(norm="l2", restarts=1.5),
        dict(norm="l2", passes=0),
        dict(norm="l2", targets=9),
    ):
        with pytest.raises(UserError, match="APGD"):
            APGD(**bad)
    with pytest.raises(UserError, match="three classes"):
        attack(linear(np.ones(48), 0.0), pictures(2), np.zeros(2, int), 0.1,
               APGD("linf", loss="dlr", targets=9), KEY)  # fmt: skip
