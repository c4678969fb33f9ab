"""Fine-tuned networks and their files, and warnings about the images given with them."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import rtl_jax as rtl
from tests.api.settings import RECIPE, SEED, SOURCE

pytestmark = pytest.mark.slow


def test_an_attack_on_training_images_says_so() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    network = rtl.finetune(rtl.load("random", **SOURCE), images[:4], [0, 1, 0, 1], recipe=RECIPE)
    settings = rtl.PGD("linf", steps=1)
    with pytest.warns(UserWarning, match="trained on 2 of these 4 images"):
        rtl.attack(network, images[2:], [0, 1, 0, 1], 0.01, settings)
    with pytest.warns(UserWarning, match="trained on 1 of these 1 images"):  # the same, as floats
        rtl.attack(network, images[:1] / 255, [0], 0.01, settings)
    rtl.attack(network, images[4:], [0, 1], 0.01, settings)  # a warning would be an error


def test_many_seeds_are_networks_of_their_own(digits, source) -> None:
    few = digits.train.take(np.arange(40))
    several = rtl.finetune(source, few.images, few.labels, seeds=[3, SEED], recipe=RECIPE)
    alone = rtl.finetune(source, few.images, few.labels, seeds=SEED, recipe=RECIPE)
    for path, leaf in alone.params.items():
        np.testing.assert_allclose(several[1].params[path], leaf, atol=2e-5, err_msg=path)
    assert not np.allclose(several[0].head.kernel, several[1].head.kernel)
    # What is frozen is the source's own.
    np.testing.assert_array_equal(alone.params["conv1/kernel"], source.params["conv1/kernel"])


def test_adversarial_fine_tuning_by_an_attack_or_by_settings(digits, source) -> None:
    """Both give the same network, which differs from that trained on clean images."""
    images, labels = digits.train.images[:24], digits.train.labels[:24]
    usual = {"blocks": 0, "epochs": 2, "seeds": 3}
    attack = rtl.PGD("l2", steps=2, keep="loss")
    found = rtl.finetune(source, images, labels, perturb=attack, eps=0.5, **usual)
    named = rtl.finetune(source, images, labels, perturbation="pgd", eps=0.5, steps=2, **usual)
    plain = rtl.finetune(source, images, labels, **usual)
    for path in found.architecture.head:
        np.testing.assert_array_equal(found.params[path], named.params[path])
        assert not np.allclose(found.params[path], plain.params[path])


def test_floats_words_and_grey_images(digits, source) -> None:
    """Float images without channels and text labels give the same network."""
    few = digits.train.take(np.arange(30))
    words = np.array(list("abcdefghij"))[few.labels]
    settings = dict(recipe=RECIPE, seeds=1, epochs=2)
    one = rtl.finetune(source, few.images, few.labels, class_names=range(10), **settings)
    floats = few.images[..., 0] / 255.0
    other = rtl.finetune(source, floats, words, class_names="abcdefghij", **settings)
    np.testing.assert_array_equal(one.head.kernel, other.head.kernel)
    assert one.training_images == other.training_images
    np.testing.assert_allclose(
        other.predict_proba(floats), one.predict_proba(few.images), atol=1e-6
    )
    with pytest.raises(rtl.UserError, match=r"labels: z is not among the 10 classes"):
        rtl.attack(other, floats[:1], ["z"], 0.1, rtl.PGD("l2"))


def test_numpy_numbers_are_settings(digits, source) -> None:
    few = digits.train.take(np.arange(20))
    settings = dict(recipe=RECIPE, epochs=np.int64(1), learning_rate=np.float32(0.5))
    one = rtl.finetune(source, few.images, few.labels, **settings)
    other = rtl.finetune(source, few.images, few.labels, recipe=RECIPE, epochs=1, learning_rate=0.5)
    assert one.digest == other.digest


def test_a_network_goes_to_a_file_and_to_torch(tmp_path: Path, digits, source) -> None:
    few = digits.train.take(np.arange(30))
    network = rtl.finetune(source, few.images, few.labels, recipe=RECIPE, epochs=1)
    network.save(tmp_path / "mine")
    again = rtl.load(str(tmp_path / "mine"))
    assert again.digest == network.digest and again.class_names == network.class_names
    np.testing.assert_array_equal(
        again.predict_proba(few.images), network.predict_proba(few.images)
    )
    assert network.export(tmp_path / "mine.safetensors").exists()


def test_labels_that_are_numbers_are_compared_by_value(digits, source) -> None:
    """They were names or indices, depending on which others were among them."""
    few = digits.train.take(np.arange(30))
    network = rtl.finetune(source, few.images, few.labels + 1.0, blocks=0, epochs=1)
    assert network.class_names[:2] == ("1.0", "2.0")
    for subset in (few.labels < 9, few.labels < 10):
        images, labels = few.images[subset], few.labels[subset] + 1
        with pytest.warns(UserWarning, match="was trained on"):
            found, other = (
                rtl.attack(network, images, each, 0.0, rtl.PGD("l2", steps=1))
                for each in (labels, labels.astype(float))
            )
        np.testing.assert_array_equal(found.success, other.success)
        right = network.predict_proba(images).argmax(1) == few.labels[subset]
        np.testing.assert_array_equal(found.success, ~right)
    with pytest.raises(rtl.UserError, match="labels: 0 is not among .*, not numbers from 0"):
        rtl.attack(network, few.images, few.labels, 0.0, rtl.PGD("l2", steps=1))


def test_influence_on_other_training_images_says_so(digits, source) -> None:
    few, other = digits.train.take(np.arange(30)), digits.train.take(np.arange(20, 40))
    network = rtl.finetune(source, few.images, few.labels, blocks=0, head_fit="logistic")
    test = few.images[:1], few.labels[:1]
    with pytest.warns(UserWarning, match="10 of the 20 .* not among these, and 20 of these are mi"):
        rtl.influence(network, (other.images, other.labels), test)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rtl.influence(network, (few.images[::-1], few.labels[::-1]), test)


def test_images_of_another_range_are_named(digits, source) -> None:
    """Raw digits have 0 to 16, and would be nearly black."""
    few = digits.train.take(np.arange(20))
    raw = (few.images // 16).astype(np.uint8)
    with pytest.warns(UserWarning, match="no pixel .* is brighter than 15 of 255"):
        rtl.finetune(source, raw, few.labels, blocks=0, epochs=1)


def test_a_network_is_shown_without_its_weights(tmp_path: Path, source) -> None:
    assert repr(source) == "<Network resnet18, 1000 classes, 8 px>"
    source.save(tmp_path / "mine")
    assert rtl.load(tmp_path / "mine").digest == source.digest  # a path that is no text


def test_a_digest_tells_what_variables_do_not_show(source) -> None:
    """Of two conversions of the same weights, only one is right: they are not the same run."""
    arch = source.architecture
    others = [
        arch.replace(**change)
        for change in (
            {"activation": "silu"},
            {"bn_eps": 1e-3},
            {"stem_stride": 2},
            {"stem_pool": True},
            {"mean": (0.0, 0.0, 0.0)},
        )
    ]
    digests = {source.replace(architecture=other).digest for other in (arch, *others)}
    assert len(digests) == 6
    # Names of runs from the bundled sources stay as they are published.
    assert rtl.load("bundled:l2").digest.startswith("725b71b4709e")


def test_a_file_keeps_stem_and_image_size(tmp_path: Path, monkeypatch) -> None:
    """A stride of 2 in a small stem was read as 1, and the size was ImageNet's."""
    monkeypatch.setenv("RTL_JAX_CACHE_DIR", str(tmp_path))
    source = rtl.load("bundled:l2")
    again = rtl.load(source.export(tmp_path / "l2.safetensors"))
    assert again.architecture.stem_stride == 2 and again.image_size == 32
    assert again.digest == source.digest
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(again.predict_proba(images), source.predict_proba(images), atol=1e-6)
