"""Valid uses of a network: at its own size, for its own classes, on unseen images."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
import pytest

from rtl_jax.data import Dataset, ImageSet
from rtl_jax.data.folds import deal
from rtl_jax.errors import UserError
from rtl_jax.lab.compatibility import (
    at_own_size,
    draw_test_images,
    name_seen,
    unseen,
    with_own_labels,
)
from rtl_jax.lab.config import Target
from rtl_jax.lab.inputs import draw_rows
from rtl_jax.models.architecture import ResNetArchitecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from rtl_jax.runtime.digest import image_digests

DRAW = np.random.default_rng(0)


def images(labels: Sequence[int], channels: int = 3) -> ImageSet:
    pixels = DRAW.integers(0, 256, (len(labels), 4, 4, channels), np.uint8)
    return ImageSet(pixels, np.asarray(labels, np.int32))


def dataset(names: Sequence[str], test: Sequence[int]) -> Dataset:
    return Dataset("folder:x", images(range(len(names))), images(test), tuple(names), "original")


def network(classes: int = 3, **known: object) -> Network:
    arch = ResNetArchitecture("tiny", "basic", (1,), (4,), stem_width=4, num_classes=classes)
    return Network(arch, *initialize(arch, jax.random.key(0)), known)


def test_the_networks_own_size_is_taken(capsys: pytest.CaptureFixture) -> None:
    target = Target("digits", image_size=224)
    one = network(image_size=32)
    assert at_own_size(target, {"a": one}).image_size == 32
    assert "a: images are taken at 32 px" in capsys.readouterr().out
    assert at_own_size(target, {"a": one, "silent": network()}).image_size == 32
    assert at_own_size(target, {"silent": network()}) is target
    assert at_own_size(Target("digits", image_size=32), {"a": one}).image_size == 32
    with pytest.raises(UserError, match="a at 32 px, b at 64 px"):
        at_own_size(target, {"a": one, "b": network(image_size=64)})


def test_classes_are_matched_by_name(capsys: pytest.CaptureFixture) -> None:
    knows = network(class_names=["cat", "dog", "hen"])
    same = dataset(["cat", "dog", "hen"], [0, 1, 2, 2])
    assert with_own_labels("n", knows, same, same.test) is same.test
    turned = dataset(["hen", "cat", "dog"], [0, 1, 2, 2])
    found = with_own_labels("n", knows, turned, turned.test)
    assert found.labels.tolist() == [2, 0, 1, 1]
    np.testing.assert_array_equal(found.images, turned.test.images)
    assert "matched by name" in capsys.readouterr().out
    fewer = dataset(["dog", "hen"], [0, 1, 1])
    assert with_own_labels("n", knows, fewer, fewer.test).labels.tolist() == [1, 2, 2]


def test_unknown_classes_are_refused_by_name() -> None:
    knows = network(2, class_names=["a", "b"])
    other = dataset(["zebra", "bear"], [0, 1])
    with pytest.raises(UserError, match=r"has no classes zebra, bear.*its classes are a, b"):
        with_own_labels("n", knows, other, other.test)
    one = dataset(["a", "bear"], [0, 1])
    with pytest.raises(UserError, match="has no class bear, which"):
        with_own_labels("n", knows, one, one.test)


@pytest.mark.parametrize(
    ("known", "names"),
    [(None, ["a", "b"]), (["cat", "dog"], ["0", "1"]), (["0", "1"], ["cat", "dog"])],
    ids=["silent network", "numbered data", "numbered network"],
)
def test_without_names_the_number_decides(
    known: list[str] | None, names: list[str], capsys: pytest.CaptureFixture
) -> None:
    two = network(2) if known is None else network(2, class_names=known)
    data = dataset(names, [1, 0])
    assert with_own_labels("n", two, data, data.test) is data.test
    said = capsys.readouterr().out
    assert ("by number" in said) == (known is not None)
    with pytest.raises(UserError, match="has 3 classes and folder:x has 2"):
        with_own_labels("n", network(3), data, data.test)


def test_training_images_are_left_out(capsys: pytest.CaptureFixture) -> None:
    test = images([0, 1, 2, 0], channels=1)
    digests = image_digests(test.images)
    knows = network(training_images=[digests[1], digests[3], "0" * 16])
    assert unseen("n", knows, test).tolist() == [0, 2]
    assert "trained on 2 of the 4 test images" in capsys.readouterr().out
    assert unseen("n", network(), test).tolist() == [0, 1, 2, 3]
    # The same pictures, held with three channels.
    three = ImageSet(np.repeat(test.images, 3, axis=-1), test.labels)
    assert unseen("n", knows, three).tolist() == [0, 2]
    with pytest.raises(UserError, match=r"trained on all 4 test images.*robustness=True"):
        unseen("n", network(training_images=digests), test)


def test_explained_training_images_are_named(capsys: pytest.CaptureFixture) -> None:
    test = images([0, 1, 2, 0])
    name_seen("n", network(training_images=image_digests(test.images)[:3]), test)
    assert "n was trained on 3 of the 4 test images" in capsys.readouterr().out
    name_seen("n", network(), test)
    assert capsys.readouterr().out == ""


def test_fewer_test_images_than_asked_for_are_all_taken(capsys: pytest.CaptureFixture) -> None:
    data = dataset(["a", "b"], [0, 1, 0, 1, 1])
    assert draw_test_images(Target("d", num_test_images=1000), data).tolist() == [0, 1, 2, 3, 4]
    assert "has 5 test images, not 1000" in capsys.readouterr().out
    assert len(draw_test_images(Target("d", num_test_images=2), data)) == 2
    assert capsys.readouterr().out == ""


def test_a_fold_is_its_own_test_set() -> None:
    data = dataset(["a", "b"], [0, 1] * 6)
    folds = deal(data.test.labels, 3)
    drawn = draw_test_images(Target("d", folds=3, fold=1), data)
    assert drawn.tolist() == np.flatnonzero(folds == 1).tolist()


def test_a_fold_is_tested_on_what_was_held_out_where_pictures_repeat() -> None:
    once = images([0, 1] * 12)
    twice = ImageSet(np.repeat(once.images, 2, axis=0), np.repeat(once.labels, 2))
    data = dataclasses.replace(dataset(["a", "b"], [0, 1]), train=twice, test=twice)
    for fold in range(3):
        target = Target("d", folds=3, fold=fold)
        train, held_out = draw_rows(target, data, seed=0)
        assert draw_test_images(target, data).tolist() == held_out.tolist()
        assert len(train) + len(held_out) == 48
        seen = {image.tobytes() for image in twice.images[train]}
        assert not any(image.tobytes() in seen for image in twice.images[held_out])
