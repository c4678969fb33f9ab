"""Unions of datasets, decoded in memory."""

import numpy as np
import pytest

from rtl_jax.data import load_dataset, union
from rtl_jax.data.dataset import Decoded, ImageSet
from rtl_jax.data.source import parts
from rtl_jax.errors import UserError


def part(names: str, labels: list[int], size: int = 4, channels: int = 3) -> Decoded:
    """Make images filled with the number of their row, and one test image filled with 255."""
    levels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(levels, (len(labels), size, size, channels))
    test = ImageSet(np.full((1, size, size, channels), 255, np.uint8), np.zeros(1, np.int32))
    return Decoded(ImageSet(images, np.array(labels, np.int32)), test, tuple(names))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("tfds:a", ["tfds:a"]),
        ("tfds:a/b+c:1.0.0+folder:x", ["tfds:a/b+c:1.0.0", "folder:x"]),
        ("folder:/p+q/r+s+tfds:t+npz:u", ["folder:/p+q/r+s", "tfds:t", "npz:u"]),
        ("digits+digits", ["digits", "digits"]),
        ("folder:a+digits-of-mine", ["folder:a+digits-of-mine"]),
    ],
)
def test_only_a_plus_before_a_kind_divides(spec, expected):
    assert parts(spec) == expected


def test_classes_are_matched_by_name_and_tests_are_the_first_ones():
    joined = union.join([part("abc", [2, 0, 1]), part("cab", [0, 1, 2, 1])], "x+y")
    assert joined.class_names == ("a", "b", "c")
    assert joined.train.labels.tolist() == [2, 0, 1, 2, 0, 1, 0]  # c a b, c a b a
    assert joined.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert len(joined.test) == 1


def test_grey_and_colour_join_as_colour():
    joined = union.join([part("ab", [0, 1], channels=1), part("ab", [0, 1])], "x+y")
    assert joined.train.images.shape == (4, 4, 4, 3) and joined.test.images.shape == (1, 4, 4, 3)
    assert joined.train.images[1].tolist() == joined.train.images[3].tolist()


def test_other_classes_or_sizes_are_refused():
    with pytest.raises(UserError, match=r"x\+y: .*first are c, only in another d, e$"):
        union.join([part("abc", [0, 1]), part("abde", [0, 1])], "x+y")
    with pytest.raises(UserError, match="each name once"):
        union.join([part("aa", [0, 1]), part("aa", [0, 1])], "x+y")
    with pytest.raises(UserError, match="4x4, 5x5"):
        union.join([part("ab", [0, 1]), part("ab", [0, 1], size=5)], "x+y")


def test_a_set_joined_with_itself():
    once, twice = (
        load_dataset(spec, data_dir=None, image_size=8, classes=(3, 7))
        for spec in ("digits", "digits+digits")
    )
    assert (twice.train.labels == np.tile(once.train.labels, 2)).all()
    assert (twice.test.labels == once.test.labels).all()
    half = len(once.train)
    for rows in (slice(half), slice(half, None)):
        assert (twice.train.images[rows] == once.train.images).all()
    assert (twice.name, twice.order) == ("digits+digits", "original")


def test_the_order_is_original_only_if_all_are():
    assert union.joint_order(["original", "original"]) == "original"
    assert union.joint_order(["original", "tfds"]) == "tfds"
