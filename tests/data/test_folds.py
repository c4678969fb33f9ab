"""Folds of cross-validation, and lists of files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtl_jax.data import Dataset, ImageSet, load_dataset
from rtl_jax.data.folds import deal
from rtl_jax.data.listing import plan_list, write_list
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Target
from rtl_jax.lab.inputs import draw_rows, load_target

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [17, 4, 2])).astype(np.int32)


def test_classes_and_folds_are_even() -> None:
    found = deal(LABELS, 5)
    sizes = np.bincount(found, minlength=5)
    assert sizes.max() - sizes.min() <= 1
    for label in range(3):
        inside = np.bincount(found[label == LABELS], minlength=5)
        assert inside.max() - inside.min() <= 1
    np.testing.assert_array_equal(found, deal(LABELS, 5))
    assert (np.diff(np.flatnonzero(found == 0)) > 1).any()  # shuffled, not in a row


def test_a_class_of_one_image_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match=r"expected at least two different images .* label 2"):
        deal(np.array([0, 0, 1, 1, 2]), 2)


def images(labels: np.ndarray) -> ImageSet:
    levels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return ImageSet(np.tile(levels, (8, 8, 1)), labels)


def test_each_image_is_tested_once_and_never_trained_on() -> None:
    dataset = Dataset("x", images(LABELS), images(LABELS), ("a", "b", "c"), "original")
    tested = []
    for fold in range(5):
        target = Target("x", folds=5, fold=fold, num_images=15)
        train, test = draw_rows(target, dataset, seed=3)
        assert len(train) == 15 and not set(train) & set(test)
        assert set(LABELS[train]) == {0, 1, 2} and (np.diff(test) > 0).all()
        tested += test.tolist()
        other, same = draw_rows(target, dataset, seed=4)
        assert set(other) != set(train) and same.tolist() == test.tolist()
    assert sorted(tested) == list(range(len(LABELS)))
    train, test = draw_rows(Target("x", folds=5), dataset, seed=3)
    assert train.tolist() == test.tolist() == list(range(len(LABELS)))


def test_folds_leave_the_test_images_alone() -> None:
    found = load_target(Target("digits", image_size=8, folds=3, fold=0))
    assert len(found.train) == len(found.test) == 1197


def picture(path: Path, level: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 11), (level, 0, 0)).save(path)
    return path


def test_a_list_is_a_data_set(tmp_path: Path) -> None:
    files = [picture(tmp_path / "x" / f"{level}.png", 40 * level) for level in range(5)]
    rows = [(file, name, split) for file, name, split in zip(
        files, ("b, \"c\"", "a", "b, \"c\"", "a", "a"), ("train", "train", "train", "test", "test"),
        strict=True)]  # fmt: skip
    write_list(tmp_path / "list.csv", rows)
    found = load_dataset(f"list:{tmp_path / 'list.csv'}", data_dir=None, image_size=8)
    assert found.class_names == ("a", 'b, "c"')
    assert found.train.labels.tolist() == [1, 0, 1] and found.test.labels.tolist() == [0, 0]
    assert found.train.images[:, 4, 4, 0].tolist() == [0, 40, 80]
    assert found.test.images[:, 4, 4, 0].tolist() == [120, 160]


def test_paths_are_from_the_lists_folder_and_splits_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file,label\nx/1.png,a\n/photos/2.png,b\n")
    plan = plan_list(tmp_path / "list.csv")
    assert plan.train == ((tmp_path / "x/1.png", 0), (Path("/photos/2.png"), 1))
    assert plan.test == ()


def test_a_list_in_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file,label\nx,a\n", encoding="utf-16")
    with pytest.raises(UserError, match="is not UTF-8: save the list as UTF-8"):
        load_dataset(f"list:{tmp_path / 'list.csv'}", data_dir=None, image_size=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\nx,a\n", r"expected a first line of file,label,split .* under name,label"),
        ("", "received 0 images under nothing"),
        ("file,label\n", "received 0 images under file,label"),
        ("file,label,split\nx,a,train\ny,,train\n", r"line 3: expected a file"),
        ("file,label,split\nx,a,train\ny\n", r"line 3: expected a file"),
        ("file,label\nx,a\ny\n", r"line 3: expected a file"),
        ("file,label,split\nx,a,later\n", r"line 2: .*train or test"),
    ],
)
def test_bad_lists_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        plan_list(tmp_path / "list.csv")
    with pytest.raises(UserError, match="there is no file"):
        plan_list(tmp_path / "absent.csv")
