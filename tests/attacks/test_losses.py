"""The losses compared with NumPy transcriptions of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtl_jax.attacks.losses import cross_entropy, dlr, judge, margin
from rtl_jax.errors import UserError

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(200, 7)).astype(np.float32)
LABELS = RNG.integers(0, 7, 200)


def test_margin_and_dlr() -> None:
    for row, (z, y) in enumerate(zip(LOGITS.astype(float), LABELS, strict=True)):
        other = max(z[i] for i in range(7) if i != y)
        descending = sorted(z, reverse=True)
        assert margin(LOGITS, LABELS)[row] == pytest.approx(other - z[y], abs=1e-6)
        expected = -(z[y] - other) / (descending[0] - descending[2])
        assert dlr(LOGITS, LABELS)[row] == pytest.approx(expected, rel=1e-4)
        if row == 20:
            break
    np.testing.assert_allclose(dlr(LOGITS * 50, LABELS), dlr(LOGITS, LABELS), rtol=1e-4)


def test_cross_entropy() -> None:
    z = LOGITS.astype(float)
    expected = np.log(np.exp(z).sum(1)) - z[np.arange(200), LABELS]
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS), expected, rtol=1e-5)


def test_the_sign_of_margin_and_dlr_is_success() -> None:
    wrong = LOGITS.argmax(1) != LABELS
    np.testing.assert_array_equal(margin(LOGITS, LABELS) > 0, wrong)
    np.testing.assert_array_equal(dlr(LOGITS, LABELS) > 0, wrong)


def test_gradients_are_finite_where_logits_are_equal() -> None:
    for loss in (cross_entropy, margin, dlr):
        gradient = jax.grad(lambda z, f=loss: f(z, jnp.array([1])).sum())(jnp.zeros((1, 4)))
        assert np.isfinite(gradient).all()


def test_dlr_needs_three_classes() -> None:
    with pytest.raises(UserError, match="margin"):
        dlr(LOGITS[:, :2], LABELS % 2)


def test_logits_that_are_not_finite_are_no_success() -> None:
    for value in (np.nan, np.inf, -np.inf):
        logits = LOGITS[:3].copy()
        logits[1, 2] = value
        for targeted in (False, True):
            labels = LABELS[:3]
            verdict = judge(jnp.asarray(logits), labels, "cross_entropy", targeted)
            np.testing.assert_array_equal(verdict.finite, [True, False, True])
            assert not verdict.success[1]


def test_half_precision_logits_are_judged_in_float32() -> None:
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    verdict = judge(logits, LABELS, "margin", False)
    assert verdict.losses.dtype == jnp.float32
    np.testing.assert_array_equal(verdict.losses, margin(logits.astype(jnp.float32), LABELS))
