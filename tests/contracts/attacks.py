"""The contract of attacks: `check_attack`, for present and future ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rtl_jax.attacks import Adversarial, Attack, attack, robustness_curve
from rtl_jax.errors import UserError
from tests.attacks.models import mlp, pictures

KEY = jax.random.key(11)
NETWORK = mlp(scale=2.0)
IMAGES = pictures(8)
LABELS = np.array(NETWORK(IMAGES).argmax(1), int)
LABELS[5] = (LABELS[5] + 1) % 4  # misclassified from the start


def _shifted(network: Partial, offset: jax.Array, images: jax.Array) -> jax.Array:
    return network(images) + offset


# One program for the network as it is and for one whose logits are not numbers.
MODEL = Partial(_shifted, NETWORK, jnp.asarray(0.0))
BROKEN = Partial(_shifted, NETWORK, jnp.asarray(float("nan")))


def check_attack(settings: Attack) -> None:
    """Raise AssertionError unless an attack keeps the contract on a small network."""
    check_identity(settings)
    eps = radius(settings)
    found = attack(MODEL, IMAGES, LABELS, eps, settings, KEY)
    check_result(settings, found, eps)
    check_one_image(settings, found, eps)
    check_not_finite(settings, eps)
    if settings.threat.has_radius:
        still = attack(MODEL, IMAGES, LABELS, 0.0, settings, KEY)
        np.testing.assert_array_equal(still.images, IMAGES)
        np.testing.assert_array_equal(still.norms, np.zeros(len(IMAGES)))
    if settings.needs_key:
        with pytest.raises(UserError, match="key"):
            attack(MODEL, IMAGES, LABELS, eps, settings)


def radius(settings: Attack) -> float | None:
    """Return a tenth of every pixel's range in any norm."""
    if not settings.threat.has_radius:
        return None
    return float(settings.threat.norm(jnp.full(IMAGES.shape[1:], 0.1)))


def check_identity(settings: Attack) -> None:
    """It is a constant with a name."""
    same = dataclasses.replace(settings)
    assert settings == same and hash(settings) == hash(same)
    assert settings == settings.replace(norm=settings.threat)
    assert isinstance(settings.display_name, str) and settings.display_name
    assert type(settings).supports(settings.threat)
    assert settings.min_classes >= 2


def check_result(settings: Attack, found: Adversarial, eps: float | None) -> None:
    """Images are in the ball and the box; success and losses equal those of another evaluation."""
    assert found.images.shape == IMAGES.shape and found.images.dtype == jnp.float32
    assert found.images.min() >= 0 and found.images.max() <= 1
    norms = jax.vmap(settings.threat.norm)(found.images - IMAGES)
    np.testing.assert_allclose(found.norms, norms, rtol=1e-5, atol=1e-6)
    if eps is not None:
        assert found.norms.max() <= eps + 1e-6
    assert found.valid.all()
    said = np.asarray(MODEL(found.images)).argmax(1)
    hit = said == LABELS
    np.testing.assert_array_equal(found.success, hit if settings.targeted else ~hit)
    assert found.robust_accuracy == pytest.approx(1 - np.mean(found.success))


def check_one_image(settings: Attack, found: Adversarial, eps: float | None) -> None:
    """The same image alone, in another program, has the same result."""

    @jax.jit
    def one(model: Partial, image: jax.Array) -> tuple[Adversarial, jax.Array]:
        alone = attack(model, image, LABELS[2], eps, settings, KEY, indices=2)
        return alone, alone.robust_accuracy

    alone, accuracy = one(MODEL, IMAGES[2])
    close(alone, jax.tree.map(lambda leaf: leaf[2], found))
    assert accuracy.shape == () and float(accuracy) == 1 - float(found.success[2])
    broken, _ = one(BROKEN, IMAGES[2])
    assert not broken.valid and not broken.success


def check_not_finite(settings: Attack, eps: float | None) -> None:
    """Non-finite logits are an error."""
    with pytest.raises(UserError, match="not finite"):
        attack(BROKEN, IMAGES, LABELS, eps, settings, KEY)


def check_curve(settings: Attack) -> None:
    """A robustness curve equals the results of separate calls."""
    radii = [0.0, 0.5 * radius(settings), radius(settings)]
    curve = robustness_curve(MODEL, IMAGES, LABELS, radii, settings, KEY)
    for index, eps in enumerate(radii):
        found = attack(MODEL, IMAGES, LABELS, eps, settings, KEY)
        close(jax.tree.map(lambda leaf, index=index: leaf[index], curve), found)
    np.testing.assert_allclose(curve.robust_accuracy, 1 - np.mean(curve.success, axis=1))


def close(ours: Adversarial, theirs: Adversarial) -> None:
    """Assert equality up to rounding."""
    np.testing.assert_array_equal(ours.success, theirs.success)
    np.testing.assert_allclose(ours.images, theirs.images, atol=1e-5)
    np.testing.assert_allclose(ours.losses, theirs.losses, atol=1e-4)
