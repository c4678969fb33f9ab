"""Square: its patches and patterns, and its independence of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rtl_jax.attacks import PGD, Square, attack
from rtl_jax.attacks.patches import L1Patches, L2Patches, LinfPatches
from rtl_jax.attacks.threats import L1, L2, Linf
from rtl_jax.errors import UserError
from tests.attacks.models import linear, pictures

KEY = jax.random.key(0)


def written_out(side: int, power: int) -> np.ndarray:
    """Return the pattern of the authors' section 3.3, square by square: a hill above a valley."""
    pattern = np.zeros((side, side))
    for start, rows, sign in ((0, side // 2, 1), (side // 2, side - side // 2, -1)):
        part, row, column = np.zeros((rows, side)), rows // 2, side // 2
        for k in range(max(rows // 2, side // 2) + 1):
            part[max(row, 0) : row + 2 * k + 1, max(column, 0) : column + 2 * k + 1] += (
                1 / (k + 1) ** power
            )
            row, column = row - 1, column - 1
        total = np.sqrt((part**2).sum()) if power == 2 else part.sum()
        pattern[start : start + rows] = sign * part / max(total, 1e-12)
    total = np.sqrt((pattern**2).sum()) if power == 2 else np.abs(pattern).sum()
    return pattern / total


@pytest.mark.parametrize("side", [1, 2, 3, 6, 7, 21])
def test_patterns(side: int) -> None:
    l2, l1 = L2Patches((32, 32, 3), L2()), L1Patches((32, 32, 3), L1())
    np.testing.assert_allclose(l2.pattern(side), written_out(side, 2), atol=1e-6)
    np.testing.assert_allclose(l1.pattern(side), written_out(side, 4), atol=1e-6)


def test_patches_shrink_as_the_authors_do() -> None:
    """sqrt(0.8 / 2^k) of 32 px, rounded; odd for L2."""
    assert [LinfPatches((32, 32, 3), Linf()).side(k) for k in range(10)] == [
        29, 20, 14, 10, 7, 5, 4, 3, 2, 1,
    ]  # fmt: skip
    assert [L2Patches((32, 32, 3), L2()).side(k) for k in range(10)] == [
        29, 21, 15, 11, 7, 5, 5, 3, 3, 3,
    ]  # fmt: skip


def test_a_proposal_is_one_patch_of_full_contrast() -> None:
    """Linf: inside it, every pixel has moved to an end of the ball; outside, none has."""
    patches, image = LinfPatches((16, 16, 3), Linf()), jnp.full((16, 16, 3), 0.5)
    eps = jnp.asarray(0.1)
    propose = jax.jit(patches.propose)
    for number in range(5):
        new = np.asarray(propose(jax.random.key(number), jnp.asarray(100), image, image, eps)) - 0.5
        rows, columns = (np.flatnonzero(np.abs(new).sum(axis=axes)) for axes in ((1, 2), (0, 2)))
        assert len(rows) == len(columns) == patches.side(2) == 7
        assert rows[-1] - rows[0] == columns[-1] - columns[0] == 6
        inside = new[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_allclose(np.abs(inside), 0.1, rtol=1e-5)
        assert (np.sign(inside) == np.sign(inside[0, 0])).all()  # a sign for each channel


def _stairs(weights: jax.Array, images: jax.Array) -> jax.Array:
    """A linear model of pixels rounded to sixteenths, whose gradient is zero everywhere."""
    return linear(weights, 0.0)(jnp.round(images * 16) / 16)


def test_no_gradient_is_needed() -> None:
    """PGD has no effect; Square comes close to the worst case of the underlying linear model."""
    w = np.random.default_rng(5).normal(size=(8, 8, 3)).astype(np.float32)
    w -= w.mean()
    images = (pictures(30, 8) * 8).round() / 16 + 0.25
    model = Partial(_stairs, jnp.asarray(w))
    score = np.asarray(model(images))[:, 1]
    labels = (score > 0).astype(int)
    eps = 1 / 16
    worst = np.abs(score) - eps * np.abs(w).sum()
    settings = Square("linf", queries=400)
    found = attack(model, images, labels, eps, settings, KEY)
    assert not attack(model, images, labels, eps, PGD("linf", steps=3)).success.any()
    assert not found.success[worst > 0].any()
    assert found.success[worst < -7.4].all() and (worst < -7.4).sum() > 10


@pytest.mark.parametrize("norm, eps", [("linf", 0.05), ("l2", 0.5), ("l1", 4.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_64_bits_are_the_callers_choice(norm: str, eps: float, dtype: type) -> None:
    """With float64 enabled in JAX, images keep their dtype, and successes are real ones."""
    with jax.enable_x64(True):
        w = np.random.default_rng(0).normal(size=(8, 8, 3))
        w -= w.mean()
        images = pictures(8, 8, 0.3, 0.7).astype(dtype)
        score = images.reshape(8, -1) @ w.ravel()
        model = linear(w, -float(np.median(score)))
        labels = (score > np.median(score)).astype(int)
        found = attack(model, images, labels, eps, Square(norm, queries=50), jax.random.key(0))
        assert found.images.dtype == dtype and found.success.any()
        assert found.norms.max() <= eps + 1e-6
        logits = np.asarray(found.images, float).reshape(8, -1) @ w.ravel() - np.median(score)
        np.testing.assert_array_equal(found.success, (logits > 0) != labels)


def test_it_is_for_images() -> None:
    with pytest.raises(UserError, match=r"\[N, H, W, C\]"):
        attack(linear(np.ones(4), 0.0), np.ones((2, 4)) / 2, np.zeros(2, int), 0.1,
               Square("linf"), KEY)  # fmt: skip
    for bad in (dict(norm="unconstrained"), dict(norm="l2", queries=0)):
        with pytest.raises(UserError, match="Square"):
            Square(**bad)
