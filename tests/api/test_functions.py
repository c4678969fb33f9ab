"""Models that are functions: batches, compilation, weights, classes and gradients."""

import jax
import numpy as np
import pytest

import rtl_jax as rtl
from rtl_jax.attacks import APGD, FAB, AutoAttack, Gaussian

pytestmark = pytest.mark.slow

TINY, CE = np.full((2, 16, 16, 3), 0.5, np.float32), AutoAttack("l2", attacks=("apgd-ce",))


class Scorer:
    """A model of other libraries: an object with weights and a method."""

    def __init__(self) -> None:
        self.weights, self.scale = np.array([1.0, -1.0], np.float32), 1.0

    def logits(self, images: jax.Array) -> jax.Array:
        mean = images.mean((1, 2, 3))[:, None]
        return self.scale * jax.numpy.asarray(self.weights) * (0.5 - mean)


def test_functions_may_take_batches_of_one_size() -> None:
    def exported(images):
        assert images.shape == (4, 16, 16, 3)
        mean = images.mean((1, 2, 3))[:, None]
        return np.array([1.0, -1.0]) * (0.5 - mean)

    images, labels = np.full((6, 16, 16, 3), 0.25, np.float32), np.zeros(6, int)
    found = rtl.attack(exported, images, labels, 0.1, rtl.PGD("linf", steps=1), batch_size=4)
    assert found.robust_accuracy == 1
    certified = rtl.certify(exported, images, labels, rtl.Smoothing(samples=20), batch_size=4)
    assert len(certified.radii) == 6
    measured = rtl.corruption_accuracy(
        exported, images, labels, names={"contrast"}, severities={5}, batch_size=4
    )
    assert measured.clean == 1


@pytest.mark.parametrize(
    "accuracy",
    [
        lambda *pair: rtl.attack(*pair, 0.01, rtl.PGD("l2", steps=1)).robust_accuracy,
        lambda *pair: (
            rtl.autoattack(
                *pair, 0.01, rtl.AutoAttack("l2", attacks=("apgd-ce",), steps=2)
            ).robust_accuracy
        ),
        lambda *pair: rtl.certify(*pair, rtl.Smoothing(samples=50)).certified_accuracy(0),
        lambda *pair: rtl.corruption_accuracy(*pair, names=["contrast"], severities=[1]).clean,
    ],
)
def test_weights_of_an_object_may_change_between_calls(accuracy) -> None:
    """A program compiled for the old weights must not answer for the new ones."""
    model, images, labels = Scorer(), np.full((2, 16, 16, 3), 0.2, np.float32), [0, 0]
    assert accuracy(model.logits, images, labels) == 1
    model.weights = -model.weights
    assert accuracy(model.logits, images, labels) == 0
    model.scale = -1.0
    assert accuracy(model.logits, images, labels) == 1


def test_a_function_is_compiled_once() -> None:
    """While its weights stay as they are."""
    model, images, calls = Scorer(), np.full((2, 16, 16, 3), 0.2, np.float32), []

    def counted(images: jax.Array) -> jax.Array:
        calls.append(len(images))
        return model.logits(images)

    numbers = []
    for _ in range(3):
        rtl.attack(counted, images, [0, 0], 0.01, rtl.PGD("l2", steps=1))
        numbers.append(len(calls))
    first, second, third = np.diff([0, *numbers])
    assert first > second == third == 1  # to look at the weights


@pytest.mark.parametrize(
    "use",
    [
        lambda *pair: rtl.attack(*pair, 0.1, rtl.PGD("l2", steps=1)),
        lambda *pair: rtl.autoattack(*pair, 0.1, rtl.AutoAttack("l2", attacks=("apgd-ce",))),
        lambda *pair: rtl.certify(*pair, rtl.Smoothing(samples=10)),
        lambda *pair: rtl.corruption_accuracy(*pair, names=["contrast"], severities=[1]),
    ],
)
def test_every_image_has_a_label_that_is_a_class(source, use) -> None:
    """More images or more labels would be left out, and a label of -1 would be a wrong class."""
    images, two = np.full((3, 16, 16, 3), 0.5, np.float32), np.array([1.0, -1.0], np.float32)

    def dark(pixels: jax.Array) -> jax.Array:
        return (0.6 - pixels.mean((1, 2, 3)))[:, None] * two

    for model in (dark, source):
        for number, labels in ((3, [0, 1]), (2, [0, 1, 0]), (0, []), (1, 0)):
            with pytest.raises(rtl.UserError, match=r"^(images|labels).*: expected"):
                use(model, images[:number], np.array(labels, int))
    for labels in ([-1, 0, 1], [1, 2, 1]):
        with pytest.raises(rtl.UserError, match=r"labels: expected 0 to 1, .* found "):
            use(dark, images, labels)
    with pytest.raises(rtl.UserError, match=r"model: expected logits \[N, classes\]"):
        use(lambda pixels: pixels, images, [0, 1, 0])


def test_an_attack_without_a_gradient_says_so() -> None:
    images, labels = np.full((4, 8, 8, 3), 0.5, np.float32), np.zeros(4, int)

    def rounded(images: jax.Array) -> jax.Array:
        mean = images.mean((1, 2, 3))[:, None].round(1)
        return np.array([1.0, -1.0]) * (1 - mean)

    with pytest.warns(UserWarning, match="the attack changed no image"):
        found = rtl.attack(rounded, images, labels, 0.5, rtl.PGD("l2", steps=2))
    assert found.robust_accuracy == 1.0


def test_counts_and_labels_of_numpy() -> None:
    """NumPy's whole numbers are settings, and 8 bits suffice for labels of many classes."""
    three = np.int64(3)
    assert rtl.PGD("l2", steps=three) == rtl.PGD("l2", steps=3)
    assert type(rtl.AutoAttack("l2", steps=three, queries=three).steps) is int
    assert rtl.corrupt(TINY, "fog", three).shape == TINY.shape
    for labels in (np.zeros(2, np.uint8), np.zeros(2, np.int8), np.zeros(2, np.int64)):
        found = rtl.attack(darkness, TINY, labels, np.float32(0.01), rtl.PGD("l2", steps=three))
        assert found.robust_accuracy == 1


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: corrupted(severities=3), r"severities: expected a list.* received 3"),
        (lambda: corrupted(severities=[]), r"severities: expected a list.* received \[\]"),
        (lambda: corrupted(severities=[3.0]), "a severity of 1 to 5, received 3.0"),
        (lambda: corrupted(seed=-1), "seed: expected a whole number, 0 or more, received -1"),
        (lambda: corrupted(batch_size=0), "batch_size: expected a whole number, 1 or more"),
        (lambda: corrupted(names="fog"), r"names: expected a list such as \['fog'\]"),
        (lambda: rtl.corrupt(TINY, "fog", 3.0), "a severity of 1 to 5, received 3.0"),
        (lambda: rtl.corrupt(TINY, "fog", seed=-1), "seed: expected a whole number, 0 or more"),
        (lambda: rtl.autoattack(darkness, TINY, [0, 0], [0.1, 0.2], CE), "eps: expected a radius"),
        (lambda: rtl.attack(darkness, TINY, [0, 0], [], rtl.PGD("l2")), "eps: expected a number"),
        (lambda: Gaussian(loss="entropy"), "Gaussian: loss: expected one of 'cross_entropy'"),
        (lambda: FAB("l2", targets=-1), "FAB: targets: expected a whole number, 0 or more"),
        (lambda: APGD("l2", "dlr", targets=-1), "APGD: targets: expected a whole number, 0 or"),
        (lambda: AutoAttack("l2", steps=2.5), "AutoAttack: steps: expected a whole number, 1 or"),
    ],
)
def test_other_mistakes_are_named(use, message: str) -> None:
    with pytest.raises(rtl.UserError, match=message):
        use()


def darkness(images: jax.Array) -> jax.Array:
    """Return logits of 300 classes, of which the first is for dark images and the last for none."""
    mean = images.mean((1, 2, 3))[:, None]
    return jax.numpy.concatenate([0.6 - mean, mean - 0.6, mean * 0 - np.arange(1, 299)], axis=1)


def corrupted(**changes):
    settings = {"names": ["fog"], "severities": [1], **changes}
    return rtl.corruption_accuracy(darkness, TINY, [0, 0], **settings)
