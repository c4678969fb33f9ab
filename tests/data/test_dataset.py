"""The checks of `ImageSet` and `Dataset`, and the selection of classes."""

import numpy as np
import pytest

from rtl_jax.data.dataset import Dataset, Decoded, ImageSet, keep_classes
from rtl_jax.errors import UserError


def image_set(labels: list[int], channels: int = 1) -> ImageSet:
    """Make images whose pixels are all 10 times their row."""
    rows = np.arange(len(labels), dtype=np.uint8) * 10
    images = np.broadcast_to(rows[:, None, None, None], (len(labels), 2, 2, channels))
    return ImageSet(np.ascontiguousarray(images), np.array(labels, np.int32))


def test_arrays_are_read_only_and_the_callers_stay_writable():
    images, labels = np.zeros((2, 2, 2, 1), np.uint8), np.zeros(2, np.int32)
    held = ImageSet(images, labels)
    with pytest.raises(ValueError, match="read-only"):
        held.images[0] = 1
    images[0] = 1
    assert len(held) == 2


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 2, 2, 1), np.float32), np.zeros(2, np.int32)),
        (np.zeros((2, 2, 2, 4), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 2, 2, 1), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 2, 2, 1), np.uint8), np.zeros(3, np.int32)),
    ],
)
def test_wrong_shapes_and_types_are_refused(images, labels):
    with pytest.raises(UserError, match=r"must be|labels: expected \[2\]"):
        ImageSet(images, labels)


def test_take_follows_the_indices():
    taken = image_set([4, 5, 6]).take([2, 0])
    assert taken.labels.tolist() == [6, 4]
    assert taken.images[:, 0, 0, 0].tolist() == [20, 0]


def test_a_class_without_a_training_image_is_named():
    with pytest.raises(UserError, match=r"label 1 \(b\)"):
        Dataset("x", image_set([0, 2]), image_set([0, 1, 2]), ("a", "b", "c"), "original")


@pytest.mark.parametrize(
    ("train", "test", "names", "match"),
    [
        (image_set([0, 2]), image_set([0]), ("a", "b"), "0..1"),
        (image_set([0, 1]), image_set([0, -1]), ("a", "b"), "test labels"),
        (image_set([0, 1]), image_set([0], channels=3), ("a", "b"), "must agree"),
        (image_set([0, 0]), image_set([0]), ("a",), "two classes"),
        (image_set([0, 1]), image_set([0]), ("a", "a"), "must be distinct, received a twice"),
        (image_set([0, 1]), image_set([]), ("a", "b"), "no test images"),
    ],
)
def test_inconsistent_sets_are_refused(train, test, names, match):
    with pytest.raises(UserError, match=match):
        Dataset("x", train, test, names, "original")


def test_keep_classes_renumbers_in_the_order_given():
    decoded = Decoded(image_set([0, 1, 2, 1, 0]), image_set([2, 0]), ("a", "b", "c"))
    kept = keep_classes(decoded, (2, 0), "x")
    assert kept.class_names == ("c", "a")
    assert kept.train.labels.tolist() == [1, 0, 1]
    assert kept.train.images[:, 0, 0, 0].tolist() == [0, 20, 40]
    assert kept.test.labels.tolist() == [0, 1]


@pytest.mark.parametrize("classes", [(0, 3), (0, 0), (-1, 0)])
def test_classes_that_do_not_exist_or_repeat_are_refused(classes):
    decoded = Decoded(image_set([0, 1, 2]), image_set([0]), ("a", "b", "c"))
    with pytest.raises(UserError, match=r"0\.\.2"):
        keep_classes(decoded, classes, "x")
