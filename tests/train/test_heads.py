"""Ridge and logistic heads compared with refits, NumPy and scikit-learn."""

import itertools

import jax
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from rtl_jax.errors import UserError
from rtl_jax.train.heads import logistic, ridge
from rtl_jax.train.heads.fit import deal_evenly, fit_heads
from rtl_jax.train.heads.spectrum import spectrum

CLASSES = 3
# Fewer images than features, and more; one feature is constant, as a dead unit's is.
SHAPES = [(14, 20), (40, 6)]


def images(number: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw features of three overlapping classes, far from 0, and their labels."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(number) % CLASSES).astype(np.int32)
    features = (
        5 + random.normal(size=(CLASSES, width))[labels] + random.normal(size=(number, width))
    )
    features[:, 0] = 2
    return features, labels


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(CLASSES)[labels]


@pytest.mark.parametrize("l2", [1e-2, 1.0, 1e3])
@pytest.mark.parametrize("shape", SHAPES)
def test_leaving_one_out_is_refitting_without_it(shape: tuple[int, int], l2: float):
    features, labels = images(*shape)
    with jax.enable_x64(True):
        found = np.asarray(ridge.leave_one_out(spectrum(features), one_hot(labels), l2))
    for image in range(len(labels)):
        others = np.arange(len(labels)) != image
        model = Ridge(l2, solver="svd").fit(features[others], one_hot(labels[others]))
        expected = model.predict(features[[image]])[0]
        np.testing.assert_allclose(found[image], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_ridge_head_is_scikit_learns_at_the_penalty_of_least_error(shape: tuple[int, int]):
    features, labels = images(*shape)
    with jax.enable_x64(True):
        found = jax.device_get(ridge.ridge(features, labels, CLASSES))
        parts, targets = spectrum(features), one_hot(labels)
        penalties = np.asarray(parts.scale) * ridge.PENALTIES
        errors = [
            float(((ridge.leave_one_out(parts, targets, l2) - targets) ** 2).sum())
            for l2 in penalties
        ]
    assert found.l2 == pytest.approx(penalties[np.argmin(errors)])
    assert found.l2 not in (penalties[0], penalties[-1])
    model = Ridge(found.l2, solver="svd").fit(features, one_hot(labels))
    np.testing.assert_allclose(found.kernel, found.scale * model.coef_.T, atol=1e-9)
    np.testing.assert_allclose(found.bias, found.scale * model.intercept_, atol=1e-8)


def test_the_scale_makes_scores_the_best_logits():
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 50)
    scores = one_hot(labels) + random.normal(size=(50, CLASSES))
    smooth = (50 * one_hot(labels) + 1 / CLASSES) / 51
    tried = np.exp(np.linspace(-1, 2, 3001))
    losses = [-(smooth * log_softmax(scale * scores, axis=1)).sum() for scale in tried]
    with jax.enable_x64(True):
        scale = float(ridge.logit_scale(scores, labels))
        certain = float(ridge.logit_scale(one_hot(labels), labels))
        nothing = float(ridge.logit_scale(np.zeros((50, CLASSES)), labels))
    assert scale == pytest.approx(tried[np.argmin(losses)], rel=1e-3)
    # Without a mistake: one in 51 images is of a class drawn at random.
    assert 1 / (1 + 2 * np.exp(-certain)) == pytest.approx(1 - 2 / 3 / 51)
    assert np.isfinite(nothing)


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 10.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_logistic_head_is_scikit_learns(shape: tuple[int, int], l2: float):
    features, labels = images(*shape)
    with jax.enable_x64(True):
        found = jax.device_get(logistic.at_penalty(spectrum(features), labels, l2, CLASSES))
    model = LogisticRegression(
        C=1 / (len(labels) * l2), solver="newton-cg", tol=1e-12, max_iter=1000
    ).fit(features, labels)
    np.testing.assert_allclose(found.kernel, model.coef_.T, atol=1e-6)
    probabilities = np.exp(log_softmax(features @ found.kernel + found.bias, axis=1))
    np.testing.assert_allclose(probabilities, model.predict_proba(features), atol=1e-6)


def test_held_out_losses_are_those_of_fits_without_the_fold():
    features, labels = images(14, 20)
    folds = deal_evenly(labels, 4)
    # A class of one image is not asked where that image is held out.
    labels[labels == 2] = np.where(np.arange((labels == 2).sum()) == 0, 2, 1)
    l2 = 0.3
    losses = []
    for fold in range(4):
        inside, outside = folds != fold, folds == fold
        # Of two classes scikit-learn fits one's weights, and so penalises them twice as much.
        share = 2 if len(set(labels[inside])) == 2 else 1
        model = LogisticRegression(C=share / (inside.sum() * l2), tol=1e-10, max_iter=1000)
        model.fit(features[inside], labels[inside])
        known = outside & np.isin(labels, labels[inside])
        columns = np.searchsorted(model.classes_, labels[known])
        losses += list(-model.predict_log_proba(features[known])[np.arange(known.sum()), columns])
    assert len(losses) == 13
    with jax.enable_x64(True):
        found = logistic.held_out_losses(
            spectrum(features),
            labels,
            folds,
            np.array([l2]),
            num_classes=CLASSES,
            num_folds=4,
            tolerance=1e-6,
        )
    assert float(found[0]) == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("signal", [0.3, 0.5])
def test_the_chosen_penalty_is_the_best_of_fits_to_the_optimum(signal: float):
    """A path of penalties, each from the solution for the last, must not stop along the way."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 12).astype(np.int32)
    features = one_hot(labels) @ random.normal(size=(CLASSES, 40)) * signal
    features = features + random.normal(size=features.shape)
    folds = deal_evenly(labels, 4)
    parts = spectrum(features)
    penalties = float(parts.scale) * np.array(logistic.PENALTIES)
    losses = np.zeros(len(penalties))
    for (index, l2), fold in itertools.product(enumerate(penalties), range(4)):
        inside = folds != fold
        model = LogisticRegression(C=1 / (inside.sum() * l2), tol=1e-8, max_iter=10_000)
        model.fit(features[inside], labels[inside])
        losses[index] += log_loss(labels[~inside], model.predict_proba(features[~inside])) / 4
    with jax.enable_x64(True):
        found = jax.device_get(logistic.logistic(features, labels, folds, CLASSES, 4))
        path = logistic.held_out_losses(
            spectrum(features), labels, folds, penalties, num_classes=CLASSES, num_folds=4
        )
    np.testing.assert_allclose(path, losses, rtol=5e-3)
    assert float(found.l2) == pytest.approx(penalties[losses.argmin()], rel=1e-6)


@pytest.mark.parametrize("method", ["ridge", "logistic"])
def test_seeds_side_by_side_are_each_alone(method: str):
    seeds = [images(14, 20, seed) for seed in range(3)]
    together = fit_heads(method, *zip(*seeds, strict=True), CLASSES)
    for fitted, (features, labels) in zip(together, seeds, strict=True):
        (alone,) = fit_heads(method, [features], [labels], CLASSES)
        assert fitted.record["method"] == method and fitted.kernel.dtype == np.float32
        assert fitted.record["l2"] == pytest.approx(alone.record["l2"])
        np.testing.assert_allclose(fitted.kernel, alone.kernel, atol=1e-5)
        np.testing.assert_allclose(fitted.bias, alone.bias, atol=1e-4)
        assert ((features @ fitted.kernel + fitted.bias).argmax(1) == labels).mean() > 0.8


@pytest.mark.parametrize("method", ["ridge", "logistic"])
def test_features_that_say_nothing_leave_the_classes_shares(method: str):
    labels = np.array([0] * 7 + [1] * 5 + [2] * 2, np.int32)
    (fitted,) = fit_heads(method, [np.full((14, 20), 7.0)], [labels], CLASSES)
    assert np.isfinite(fitted.kernel).all()
    logits = 7 * fitted.kernel.sum(0) + fitted.bias
    assert list(np.argsort(-logits)) == [0, 1, 2]


@pytest.mark.parametrize("method", ["ridge", "logistic"])
def test_a_class_without_an_image_is_the_least_probable(method: str):
    features, labels = images(14, 20)
    (fitted,) = fit_heads(method, [features], [labels % 2], CLASSES)
    assert np.isfinite(fitted.kernel).all() and np.isfinite(fitted.bias).all()
    assert ((features @ fitted.kernel + fitted.bias).argmax(1) < 2).all()


@pytest.mark.parametrize(
    ("features", "words"),
    [(np.ones((1, 4)), "two or more"), (np.full((2, 4), np.nan), "finite features")],
)
def test_what_cannot_be_fitted_is_refused(features: np.ndarray, words: str):
    with pytest.raises(UserError, match=words):
        fit_heads("ridge", [features], [np.zeros(len(features), np.int32)], 2)


def test_folds_have_their_share_of_every_class():
    labels = np.random.default_rng(0).integers(0, 4, 50)
    dealt = deal_evenly(labels, 5)
    assert np.bincount(dealt).tolist() == [10] * 5
    for label in range(4):
        counts = np.bincount(dealt[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
