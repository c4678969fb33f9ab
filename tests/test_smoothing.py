"""Randomised smoothing of a linear model, whose smoothed probabilities have a closed form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rtl_jax as rtl
from rtl_jax.errors import UserError
from rtl_jax.smoothing import ABSTAINED, Smoothing, certify

SHAPE = (4, 4, 3)
WEIGHTS = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
OFFSET = -float(WEIGHTS.sum()) / 2  # the boundary runs through the grey image


def logits_fn(images: jax.Array) -> jax.Array:
    """Return class 1 on one side of a plane, class 0 on the other, and never class 2."""
    side = jnp.tensordot(images, jnp.asarray(WEIGHTS), 3) + OFFSET
    return jnp.stack([-side, side, jnp.full_like(side, -1e9)], axis=1)


def at_distance(distances: np.ndarray) -> np.ndarray:
    """Make images with the given signed L2 distances from the plane, in float32."""
    return (0.5 + distances[:, None, None, None] * WEIGHTS / np.linalg.norm(WEIGHTS)).astype(
        np.float32
    )


def published(counts0: np.ndarray, counts: np.ndarray, sigma: float, alpha: float):
    """Apply CERTIFY of Cohen et al. (2019), with scipy's equivalent of the bound in their code:
    `proportion_confint(nA, N, alpha=2 * alpha, method="beta")[0]` of statsmodels.
    """
    chosen = counts0.argmax()
    test = stats.binomtest(int(counts[chosen]), int(counts.sum()))
    bound = test.proportion_ci(1 - 2 * alpha, method="exact").low
    return (ABSTAINED, 0.0) if bound < 0.5 else (chosen, sigma * stats.norm.ppf(bound))


def test_the_radius_is_below_the_true_one_and_near_it() -> None:
    """A linear classifier's true radius is its distance from the plane, whatever the noise."""
    distances = np.array([-0.5, -0.2, 0.1, 0.3, 0.45])
    smoothing = Smoothing(sigma=0.25, samples=20_000, alpha=0.001)
    labels = (distances > 0).astype(int)
    found = certify(logits_fn, at_distance(distances), labels, smoothing, jax.random.key(0))
    np.testing.assert_array_equal(found.classes, labels)
    assert found.correct.all()
    true = np.minimum(np.abs(distances), smoothing.largest_radius)
    assert (found.radii <= true + 1e-6).all()
    # Four standard deviations of the share of draws, as a length.
    shares = stats.norm.cdf(true / 0.25)
    slopes = 0.25 / stats.norm.pdf(true / 0.25)
    room = 8 * np.sqrt(shares * (1 - shares) / 20_000) * slopes
    assert (found.radii >= true - room - 1e-3).all(), (found.radii, true, room)


def test_hits_are_binomial_of_the_closed_form() -> None:
    distances = np.full(64, 0.2)
    smoothing = Smoothing(sigma=0.25, samples=1000)
    found = certify(logits_fn, at_distance(distances), np.ones(64, int), smoothing, _key(1))
    share = stats.norm.cdf(0.2 / 0.25)
    # Each image draws its own noise: their hits scatter as 64 binomial numbers do.
    assert stats.kstest(found.hits, stats.binom(1000, share).cdf).pvalue > 1e-3
    assert len(set(found.hits.tolist())) > 10


@pytest.mark.parametrize("samples", [50, 1000])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_radii_and_abstentions_are_the_published_ones(samples: int, alpha: float) -> None:
    smoothing = Smoothing(sigma=0.5, samples=samples, alpha=alpha)
    for hits in {0, 1, samples // 2, samples // 2 + 30, samples - 1, samples}:
        hits = min(hits, samples)
        counts = np.array([samples - hits, hits])
        _, radius = published(np.array([0, 9]), counts, 0.5, alpha)
        # To what scipy solves for the interval's end.
        assert max(float(smoothing.radius(np.asarray(hits))), 0) == pytest.approx(radius, rel=1e-9)


def test_near_the_boundary_it_abstains() -> None:
    images = at_distance(np.array([0.0, 0.001]))
    found = certify(logits_fn, images, np.array([1, 1]), Smoothing(samples=200), _key(0))
    np.testing.assert_array_equal(found.classes, ABSTAINED)
    np.testing.assert_array_equal(found.radii, 0)
    assert found.certified_accuracy(0) == 0


def test_a_wrong_prediction_counts_nowhere() -> None:
    images = at_distance(np.array([0.4, 0.4]))
    found = certify(logits_fn, images, np.array([1, 0]), Smoothing(samples=500), _key(0))
    np.testing.assert_array_equal(found.correct, [True, False])
    assert [found.certified_accuracy(radius) for radius in (0, 0.2, 9)] == [0.5, 0.5, 0]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_draws_depend_on_the_image_alone(batch_size: int) -> None:
    """For any batch size and any number of draws per program."""
    images, labels = at_distance(np.linspace(-0.3, 0.3, 7)), np.ones(7, int)
    run = partial(certify, logits_fn, smoothing=Smoothing(samples=301, selection_samples=10))
    whole = run(images, labels, key=_key(3))
    parts = run(images, labels, key=_key(3), batch_size=batch_size)
    np.testing.assert_array_equal(whole.hits, parts.hits)
    some = run(images[4:], labels[4:], key=_key(3), indices=np.arange(4, 7))
    np.testing.assert_array_equal(whole.hits[4:], some.hits)


def test_coverage_is_as_promised() -> None:
    """At most a fraction alpha of certificates exceeds the true distance."""
    number, alpha = 2000, 0.05
    smoothing = Smoothing(sigma=0.25, samples=100, selection_samples=10, alpha=alpha)
    images = at_distance(np.full(number, 0.2))
    found = certify(logits_fn, images, np.ones(number, int), smoothing, _key(4), batch_size=2000)
    wrong = (found.radii > 0.2).sum()
    assert stats.binomtest(int(wrong), number, alpha, alternative="greater").pvalue > 1e-4
    assert wrong > 0  # the bound is not needlessly wide


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "Smoothing: sigma: expected a positive number"),
        ({"samples": 0}, "Smoothing: samples: expected a whole number, 1 or more, received 0"),
        ({"samples": 1e3}, "Smoothing: samples: expected a whole number, .* received 1000.0"),
        ({"selection_samples": True}, "Smoothing: selection_samples: expected a whole number"),
        ({"alpha": 1.0}, "Smoothing: alpha: expected a number between 0 and 1"),
    ],
)
def test_settings_that_mean_nothing(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Smoothing(**settings)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_images_in_half_precision_have_noise_in_single(dtype: np.dtype) -> None:
    """The grey image is the same in all; in half precision, noise has another mean and no tails."""
    images, labels = np.full((2, *SHAPE), 0.5, np.float32), np.ones(2, int)
    run = partial(certify, logits_fn, smoothing=Smoothing(samples=1000), key=_key(0))
    single, half = run(images, labels), run(images.astype(dtype), labels)
    np.testing.assert_array_equal(half.hits, single.hits)


def test_64_bits_are_the_callers_choice() -> None:
    """With float64 enabled in JAX, float32 images have the same noise; float64 ones work too."""
    images, labels = at_distance(np.linspace(-0.3, 0.3, 5)), np.ones(5, int)
    run = partial(certify, logits_fn, smoothing=Smoothing(samples=200), key=_key(0))
    expected = run(images, labels)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(run(images, labels).hits, expected.hits)
        assert run(images.astype(float), labels).hits.shape == (5,)


def test_an_abstention_is_correct_for_no_label() -> None:
    images = at_distance(np.array([0.0]))
    found = certify(logits_fn, images, np.array([ABSTAINED]), Smoothing(samples=200), _key(0))
    assert found.classes == ABSTAINED and not found.correct.any()


def test_pixels_are_floats_from_0_to_1() -> None:
    """A radius of grey levels would be read as one 255 times as large."""
    images = at_distance(np.array([0.4]))
    run = partial(certify, logits_fn, smoothing=Smoothing(samples=10), key=_key(0))
    with pytest.raises(UserError, match=r"images: expected pixels in \[0, 1\], found .* divide"):
        run(images * 255, np.ones(1, int))
    with pytest.raises(UserError, match=r"images: expected floats in \[0, 1\], received uint8"):
        run(np.uint8(images * 255), np.ones(1, int))
    with pytest.raises(UserError, match="batch_size: expected a whole number, 1 or more"):
        run(images, np.ones(1, int), batch_size=0)


def test_logits_that_are_not_finite() -> None:
    with pytest.raises(UserError, match="not finite under noise"):
        certify(
            lambda images: images.sum((1, 2)) * jnp.nan,
            at_distance(np.zeros(2)),
            np.zeros(2, int),
            Smoothing(samples=10),
            _key(0),
        )


def test_a_network_from_the_front_door() -> None:
    """Through the Python interface, by class names, with images of a size other than its own."""
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    network = rtl.load("bundled:gaussian")
    names = [network.class_names[number] for number in network.predict_proba(images).argmax(1)]
    settings = rtl.Smoothing(sigma=0.01, samples=100, selection_samples=10)
    found = rtl.certify(network, images, names, settings)
    assert found.radii.shape == (3,) and found.correct.any()


def _key(seed: int) -> jax.Array:
    return jax.random.key(seed)
