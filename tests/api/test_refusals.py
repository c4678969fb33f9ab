"""What networks, images, labels and settings do not fit is refused, and the message says why."""

import numpy as np
import pytest

import rtl_jax as rtl

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("images", "labels", "settings", "message"),
    [
        (np.zeros((4, 3, 8, 8)), [0, 1] * 2, {}, "channels come last"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"class_names": "aa"}, "expected different names"),
        (np.full((4, 8, 8, 3), 255.0), [0, 1] * 2, {}, r"pixels in \[0, 1\], found 255"),
        (np.full((4, 8, 8, 3), np.nan), [0, 1] * 2, {}, r"pixels in \[0, 1\]"),
        (np.zeros((4, 8, 8, 3), np.int64), [0, 1] * 2, {}, "expected uint8, or floats"),
        (np.zeros((4, 8, 8, 3)), [0] * 4, {}, "two classes or more"),
        (np.zeros((4, 8, 8, 3)), [0, 1, 0], {}, r"labels: expected \[4\]"),
        (np.zeros((4, 8, 8, 4)), [0, 1] * 2, {}, "transparency is not supported"),
        (
            np.zeros((4, 8, 3), np.uint8),
            [0, 1] * 2,
            {},
            r"single image \[4, 8, 3\]: pass images\[None\]",
        ),
        ([np.zeros((8, 8 + i, 3)) for i in range(4)], [0, 1] * 2, {}, "different shapes: resize"),
        (["a.png"] * 4, [0, 1] * 2, {}, r"received \[4\]; files are read by"),
        (np.zeros((4, 8, 8, 3)), [0, np.nan] * 2, {}, "2 are missing, the first at index 1"),
        (np.zeros((4, 8, 8, 3)), ["a", None] * 2, {}, "2 are missing, the first at index 1"),
        (np.zeros((4, 8, 8, 3)), np.array(["a", 1] * 2, object), {}, "received int and str"),
        (np.zeros((4, 8, 8, 3)), np.eye(2)[[0, 1] * 2], {}, r"one-hot rows .* \.argmax"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"blocks": "all"}, "blocks: expected a whole number"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"epochs": 2.5}, "epochs: expected a whole number"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"image_size": "32"}, "image_size: expected a pos"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"lr": 1}, "there is no setting lr"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"eps": 0.5}, "eps: expected perturb= or"),
        (
            np.zeros((4, 8, 8, 3)),
            [0, 1] * 2,
            {"perturb": rtl.PGD("l2"), "eps": 0.5, "blocks": 0, "head_fit": "ridge"},
            "perturb: expected none with head_fit='ridge' and blocks=0",
        ),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"blocks": 9}, "has 2 blocks, received 9"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"seeds": []}, "seeds: expected one or more"),
        (np.zeros((4, 8, 8, 3)), [0, 1] * 2, {"augment": "strong"}, "augmentation: expected one"),
    ],
)
def test_what_does_not_fit_is_said(source, images, labels, settings, message) -> None:
    with pytest.raises(rtl.UserError, match=message):
        rtl.finetune(source, images, labels, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        # Taken modulo 2**32, these would be another seed's networks.
        ({"seeds": 2**32}, r"seeds: expected a whole number below 2\*\*32"),
        ({"seeds": [0, -1]}, "seeds: expected a whole number"),
        ({"seeds": 1.9}, "seeds: expected a whole number"),
        ({"seeds": "3"}, "seeds: expected a whole number"),
        ({"seeds": None}, "seeds: expected a whole number"),
        ({"recipe": "paper"}, r"recipe: expected a recipe, such as rtl.Recipe\(\)"),
        ({"recipe": rtl.Recipe(epochs=2.5)}, "epochs: expected a whole number"),
        ({"augment": None}, "augment: expected 'none', 'paper' or"),
        ({"perturb": "pgd"}, r"perturb: expected an attack such as rtl\.PGD"),
        ({"perturb": rtl.PGD("l2"), "mixup": 0.2}, "mixup: expected none with perturb="),
        ({"perturb": rtl.PGD("l2", steps=1), "steps": 3}, "steps: expected none beside perturb="),
        ({"perturb": rtl.PGD("l2"), "perturbation": "pgd"}, "perturbation: expected none beside"),
    ],
)
def test_settings_without_sense_are_refused(source, settings, message) -> None:
    with pytest.raises(rtl.UserError, match=message):
        rtl.finetune(source, np.zeros((4, 8, 8, 3)), [0, 1] * 2, **settings)


def test_attacks_have_seeds_of_their_own(source) -> None:
    data = np.zeros((2, 8, 8, 3)), [0, 1]
    for use in (
        lambda: rtl.attack(source, *data, 0.5, rtl.PGD("l2"), seed=-1),
        lambda: rtl.autoattack(source, *data, 0.5, rtl.AutoAttack("l2"), seed=2**32),
        lambda: rtl.certify(source, *data, rtl.Smoothing(0.5), seed=1.5),
    ):
        with pytest.raises(rtl.UserError, match="seed: expected a whole number"):
            use()


def test_random_sources_have_seeds_of_their_own() -> None:
    with pytest.raises(rtl.UserError, match="seed: expected a whole number"):
        rtl.load("random", arch="resnet18", seed=2**32)


def test_pixels_are_checked_in_every_use(source) -> None:
    """Floats of 0 to 255 and NaN would be clipped, or spread, in silence."""
    images = np.full((2, 8, 8, 3), 200.0)
    for use in (
        lambda pixels: source.predict_proba(pixels),
        lambda pixels: source.features(pixels),
        lambda pixels: rtl.attack(source, pixels, [0, 1], 0.5, rtl.PGD("l2", steps=1)),
        lambda pixels: rtl.corrupt(pixels, "fog", severity=1),
    ):
        with pytest.raises(rtl.UserError, match=r"images: expected pixels in \[0, 1\], found 200"):
            use(images)
        with pytest.raises(rtl.UserError, match=r"expected pixels in \[0, 1\], .*\(NaN\)"):
            use(np.where(np.arange(3) == 1, np.nan, images / 255))
        with pytest.raises(rtl.UserError, match="images: expected one or more"):
            use(images[:0])


def test_whole_numbers_are_no_pixels_of_logits(source) -> None:
    """Clipped to [0, 1] they would be black and white, and a mean of whole numbers is 0."""
    images = np.full((2, 8, 8, 3), 200, np.uint8)
    with pytest.raises(rtl.UserError, match=r"expected floats in \[0, 1\], received uint8: divide"):
        source.logits_fn()(images)
    expected = source.logits(source.features(images))
    found = source.logits_fn()(images.astype(np.float64) / 255)  # float64 makes no warning
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_radius_in_grey_levels_is_refused(source) -> None:
    images, labels = np.zeros((1, 8, 8, 3)), [0]
    with pytest.raises(rtl.UserError, match=r"eps: expected at most 1 in linf.* \(8/255 for 8-bit"):
        rtl.attack(source, images, labels, 8, rtl.PGD("linf", steps=1))
    assert rtl.attack(source, images, labels, 8, rtl.PGD("l2", steps=1)).norms.max() <= 8
    with pytest.raises(rtl.UserError, match="eps: expected at most 1 in linf"):
        rtl.autoattack(source, images, labels, 8, rtl.AutoAttack("linf"))
    with pytest.raises(rtl.UserError, match="eps: expected a radius of 0 or more, received None"):
        rtl.autoattack(source, images, labels, None, rtl.AutoAttack("linf"))
    images, labels = np.zeros((4, 8, 8, 3)), [0, 1] * 2
    with pytest.raises(rtl.UserError, match="eps: expected at most 1 in linf"):  # 3 is for L2
        rtl.finetune(source, images, labels, perturb=rtl.PGD("linf", steps=1))


def test_influence_takes_pairs_of_images_and_labels(source) -> None:
    images, labels = np.zeros((4, 8, 8, 3)), [0, 1] * 2
    with pytest.raises(
        rtl.UserError, match=r"train: expected \(images, labels\), received ndarray"
    ):
        rtl.influence(source, images, labels)
    with pytest.raises(rtl.UserError, match=r"test: expected \(images, labels\)"):
        rtl.perturb_training(source, (images, labels), images, [[0, 0]], 0.5)
    with pytest.raises(rtl.UserError, match="damping: expected a number of 0 or more"):
        rtl.influence(source, (images, labels), (images, labels), damping=-1.0)


def test_a_source_is_a_network() -> None:
    with pytest.raises(rtl.UserError, match=r"such as rtl\.load\('bundled:l2'\), received str"):
        rtl.finetune("bundled:l2", np.zeros((4, 8, 8, 3)), [0, 1] * 2)


def test_divergence_names_the_seeds(digits, source) -> None:
    few = digits.train.take(np.arange(30))
    with pytest.raises(rtl.UserError, match=r"diverged for the seeds \[1, 2\]"):
        rtl.finetune(source, few.images, few.labels, seeds=(1, 2), learning_rate=1e30)


def test_settings_of_another_kind_are_refused(source) -> None:
    images, labels = np.zeros((1, 8, 8, 3)), [0]
    for settings, said in (
        ("l2", "received str"),
        (rtl.PGD, "received the class PGD"),
        (rtl.AutoAttack("l2"), "received AutoAttack; rtl.autoattack takes"),
    ):
        with pytest.raises(rtl.UserError, match=rf'settings: expected.*PGD\("l2"\), {said}'):
            rtl.attack(source, images, labels, 0.5, settings)
    with pytest.raises(rtl.UserError, match="settings: expected.*AutoAttack.* received PGD"):
        rtl.autoattack(source, images, labels, 0.5, rtl.PGD("l2"))
    with pytest.raises(rtl.UserError, match="settings: expected.*Smoothing.* received float"):
        rtl.certify(source, images, labels, 0.25)
    with pytest.raises(rtl.UserError, match="batch_size: expected a whole number, .* received 0"):
        rtl.attack(source, images, labels, 0.5, rtl.PGD("l2"), batch_size=0)
    with pytest.raises(rtl.UserError, match="eps: expected a number such as 8 / 255"):
        rtl.attack(source, images, labels, "8/255", rtl.PGD("linf"))
    with pytest.raises(rtl.UserError, match="model: expected a network.* list: pass one of its"):
        rtl.attack([source], images, labels, 0.5, rtl.PGD("l2"))
    with pytest.raises(rtl.UserError, match="labels: expected whole numbers with a function"):
        rtl.attack(lambda images: images, images, ["a"], 0.5, rtl.PGD("l2"))


def test_sources_are_named_in_a_list_or_a_mapping(source) -> None:
    images, labels = np.zeros((4, 8, 8, 3)), [0, 1] * 2
    with pytest.raises(rtl.UserError, match="sources: expected a list of names.* received str"):
        rtl.choose("bundled:l2", images, labels)
    with pytest.raises(rtl.UserError, match="sources: expected a list.* received a Network"):
        rtl.choose([source], images, labels)
    with pytest.raises(rtl.UserError, match="blocks: expected a list of whole numbers"):
        rtl.choose(["bundled:l2"], images, labels, blocks=0)
    with pytest.raises(rtl.UserError, match="Did you mean bundled:l2"):
        rtl.load("l2")
