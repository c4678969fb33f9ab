"""PGD within a ball of frequencies, compared with NumPy's transform, a closed form and PGD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rtl_jax as rtl
from rtl_jax.attacks import PGD, FourierPGD, attack
from rtl_jax.attacks.fourier import filtered
from rtl_jax.errors import UserError

DRAW = np.random.default_rng(0)
WEIGHTS = DRAW.normal(size=(12, 9, 3)).astype(np.float32)
GREY = np.full((3, 12, 9, 3), 0.5, np.float32)
LABELS = np.array([0, 0, 1])


def linear(images: jax.Array) -> jax.Array:
    """Two classes separated by a plane: the gradient is constant."""
    side = jnp.tensordot(images - 0.5, jnp.asarray(WEIGHTS), 3)
    return jnp.stack([side, -side], axis=1)


# Weights by the radial frequency in cycles per pixel, of 12 x 9 images: the lowest is 1/12, and the
# highest is that of the corner (6/12, 4/9).
LOWEST, HIGHEST = 1 / 12, np.hypot(1 / 2, 4 / 9)
BUDGETS = {
    "1/f": lambda f: LOWEST / max(f, LOWEST),
    "f": lambda f: f / HIGHEST,
    "flat": lambda f: 1.0,
    (2.0, 0.0, 1.0): lambda f: np.interp(f / HIGHEST, [0, 0.5, 1], [1, 0, 0.5]),
}


def weights_of(budget: str | tuple[float, ...], band: tuple[float, float]) -> np.ndarray:
    """Compute the weights one frequency at a time."""
    found = np.zeros((12, 9))
    for row in range(12):
        for column in range(9):
            steps = min(row, 12 - row) / 12, min(column, 9 - column) / 9
            if band[0] <= 2 * max(steps) <= band[1]:
                found[row, column] = BUDGETS[budget](np.hypot(*steps))
    return found / found.max()


def settings_of(budget: str | tuple[float, ...], band: tuple[float, float], **more) -> FourierPGD:
    named = {"budget": budget} if isinstance(budget, str) else {"budget_weights": budget}
    return FourierPGD(low_frequency=band[0], high_frequency=band[1], **named, **more)


def in_band(change: np.ndarray, low: float, high: float) -> np.ndarray:
    """Filter with NumPy's transform, one frequency at a time."""
    spectrum = np.fft.fft2(change, axes=(-3, -2))
    height, width = change.shape[-3:-1]
    for row in range(height):
        for column in range(width):
            steps = min(row, height - row) / height, min(column, width - column) / width
            if not low <= 2 * max(steps) <= high:
                spectrum[..., row, column, :] = 0
    return np.fft.ifft2(spectrum, axes=(-3, -2)).real


@pytest.mark.parametrize("band", [(0.0, 0.0), (0.0, 0.3), (0.4, 0.7), (0.7, 1.0), (0.0, 1.0)])
def test_a_linear_network_has_a_closed_form(band: tuple[float, float]) -> None:
    """The steepest perturbation of a band is the gradient's part in it, of length eps."""
    settings = FourierPGD(low_frequency=band[0], high_frequency=band[1], steps=5, keep="last")
    found = attack(linear, GREY, LABELS, 0.4, settings)
    steepest = in_band(WEIGHTS, *band)
    steepest *= 0.4 / np.linalg.norm(steepest)
    for image, label in zip(np.asarray(found.images), LABELS, strict=True):
        np.testing.assert_allclose(image - 0.5, steepest * (1 if label else -1), atol=2e-6)
    np.testing.assert_allclose(found.norms, 0.4, rtol=1e-5)


def test_every_frequency_is_pgd() -> None:
    """Unless pixels are clamped. A smooth function: near a ReLU's kink PGD amplifies rounding."""
    hidden, last = (DRAW.normal(size=shape, scale=0.1) for shape in ((12 * 9 * 3, 20), (20, 5)))

    def smooth(images: jax.Array) -> jax.Array:
        return jnp.tanh(images.reshape(len(images), -1) @ hidden) @ last

    images = jnp.asarray(DRAW.uniform(0.4, 0.6, (4, 12, 9, 3)), jnp.float32)
    labels = np.asarray(smooth(images).argmax(1))
    whole = attack(smooth, images, labels, 0.3, PGD("l2", steps=4))
    bands = FourierPGD(high_frequency=1.0, steps=4)
    found = attack(smooth, images, labels, 0.3, bands)
    assert np.abs(whole.images - images).max() > 0.01
    np.testing.assert_allclose(found.images, whole.images, atol=1e-6)
    np.testing.assert_array_equal(found.success, whole.success)


def test_black_pixels_do_not_stop_it() -> None:
    """Where only one direction is possible, the network's input is clamped, and delta is not."""
    dark = np.zeros_like(GREY)
    settings = FourierPGD(high_frequency=0.3, steps=10, relative_step=1.0)
    found = attack(linear, dark, LABELS, 1.0, settings)
    assert (np.asarray(found.norms) > 0.4).all() and (np.asarray(found.norms) <= 1 + 1e-6).all()
    still = np.asarray(linear(dark))
    moved = np.asarray(linear(found.images))
    rows = np.arange(3)
    assert (moved[rows, LABELS] < still[rows, LABELS]).all()


def test_the_filter_is_numpys() -> None:
    change = DRAW.normal(size=(7, 10, 3)).astype(np.float32)
    for low, high in ((0.0, 0.25), (0.3, 0.6), (1.0, 1.0)):
        weights = FourierPGD(low_frequency=low, high_frequency=high).weights(7, 10)
        found = filtered(jnp.asarray(change), weights)
        np.testing.assert_allclose(found, in_band(change, low, high), atol=1e-6)


@pytest.mark.parametrize("band", [(0.0, 1.0), (0.2, 0.7)])
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_the_steepest_perturbation_of_a_budget(
    budget: str | tuple[float, ...], band: tuple[float, float]
) -> None:
    """argmax g . delta with ||F(delta) / w|| <= eps: F(delta) = eps w^2 F(g) / ||w F(g)||."""
    weights, settings = weights_of(budget, band), settings_of(budget, band, steps=5, keep="last")
    np.testing.assert_allclose(settings.weights(12, 9), weights, atol=1e-12)
    # As long as nothing is clamped.
    found = attack(linear, GREY, LABELS, 0.3, settings)
    spectrum = weights[..., None] * np.fft.fft2(WEIGHTS, axes=(0, 1), norm="ortho")
    steepest = 0.3 * weights[..., None] * spectrum / np.linalg.norm(spectrum)
    steepest = np.fft.ifft2(steepest, axes=(0, 1), norm="ortho").real
    for image, label in zip(np.asarray(found.images), LABELS, strict=True):
        np.testing.assert_allclose(image - 0.5, steepest * (1 if label else -1), atol=2e-6)


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_perturbations_keep_to_their_budget(budget: str | tuple[float, ...]) -> None:
    """||F(delta) / w|| <= eps by NumPy, from random starts, also if the projection scales down."""

    def bent(images: jax.Array) -> jax.Array:
        return jnp.sin(20 * linear(images))

    weights = weights_of(budget, (0.0, 1.0))
    settings = settings_of(
        budget, (0.0, 1.0), steps=6, relative_step=4.0, random_start=True, keep="last"
    )
    found = attack(bent, GREY, LABELS, 0.3, settings, jax.random.key(0))
    change = np.asarray(found.images, np.float64) - 0.5
    spectrum = np.fft.fft2(change, axes=(1, 2), norm="ortho")
    allowed = weights > 1e-9
    assert np.abs(spectrum[:, ~allowed]).max(initial=0) < 1e-6
    lengths = np.linalg.norm(spectrum[:, allowed] / weights[allowed, None], axis=(1, 2))
    # float32 pixels have no smaller steps, and a small weight makes theirs large.
    assert (lengths < 0.3 + 1e-5 / weights[allowed].min()).all()
    assert lengths.min() > 0.1 and lengths.max() > 0.25
    assert (np.asarray(found.norms) <= 0.3 + 1e-6).all()


def test_training_images_are_perturbed_in_a_band() -> None:
    """Adversarial fine-tuning uses it like any attack: the network trains on other images."""
    source = rtl.load("bundled:l2")
    images = DRAW.integers(0, 256, (8, 32, 32, 3), np.uint8)
    recipe = {"blocks": 0, "epochs": 1, "batch_size": 8, "eps": 2.0, "norm": "l2"}
    plain = rtl.finetune(source, images, [0, 1] * 4, blocks=0, epochs=1, batch_size=8)
    low, high = (
        rtl.finetune(source, images, [0, 1] * 4, perturb=one, **recipe)
        for one in (
            FourierPGD(steps=2, keep="loss"),
            FourierPGD(low_frequency=0.5, high_frequency=1, budget="1/f", steps=2, keep="loss"),
        )
    )
    named = {"low_frequency": 0.5, "high_frequency": 1.0, "budget": "1/f", "steps": 2}
    same = rtl.finetune(source, images, [0, 1] * 4, perturbation="fourier", **named, **recipe)
    np.testing.assert_array_equal(same.head.kernel, high.head.kernel)
    kernels = [network.head.kernel for network in (plain, low, high)]
    assert not np.allclose(kernels[0], kernels[1]) and not np.allclose(kernels[1], kernels[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "linf"}, "FourierPGD: norm: expected one of 'l2'"),
        ({"low_frequency": -0.1}, "low_frequency: expected a number from 0 to 1"),
        ({"low_frequency": 0.5}, "high_frequency: expected a number from low_frequency, 0.5, to 1"),
        ({"budget": "2/f"}, "FourierPGD: budget: expected one of 'flat', '1/f', 'f'"),
        ({"budget_weights": (0.0, 0.0)}, "budget_weights: expected none, or two or more numbers"),
    ],
)
def test_bands_that_are_none(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FourierPGD(**settings)


def test_a_budget_without_any_frequency_is_said() -> None:
    settings = FourierPGD(high_frequency=0.0, budget="f")
    with pytest.raises(UserError, match="budget f: no frequency of 12 x 9 images is allowed"):
        attack(linear, GREY, LABELS, 0.3, settings)
