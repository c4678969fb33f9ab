"""Keras's arrays in their variants, and every way in which a .npz can be wrong."""

from pathlib import Path

import numpy as np
import pytest

from rtl_jax.data import load_dataset
from rtl_jax.errors import UserError


def arrays(**changes: object) -> dict[str, object]:
    generator = np.random.default_rng(0)
    good = {
        "x_train": generator.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8),
        "y_train": np.array([[0], [1], [2], [0], [1], [2]], np.int64),
        "x_test": generator.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8),
        "y_test": np.array([2, 1, 0], np.uint8),
    }
    return {key: value for key, value in (good | changes).items() if value is not None}


def load(path: Path, tmp_path: Path):
    return load_dataset(f"npz:{path}", data_dir=None, cache_dir=tmp_path / "cache", image_size=32)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_keras_arrays(tmp_path, save):
    save(tmp_path / "a.npz", **arrays())
    dataset = load(tmp_path / "a.npz", tmp_path)
    assert (dataset.train.images == arrays()["x_train"]).all()
    assert dataset.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.test.labels.tolist() == [2, 1, 0]
    assert dataset.train.labels.dtype == np.int32
    assert (dataset.class_names, dataset.order) == (("0", "1", "2"), "original")


def test_greyscale_and_floats(tmp_path):
    levels = np.array([0, 0.1, 0.5, 0.999, 1, 0.002]).reshape(6, 1, 1)
    np.savez(
        tmp_path / "a.npz",
        **arrays(x_train=levels, x_test=np.zeros((3, 1, 1, 1), np.float32)),
    )
    dataset = load(tmp_path / "a.npz", tmp_path)
    assert dataset.train.images.shape == (6, 1, 1, 1)
    assert dataset.train.images.ravel().tolist() == [0, 26, 128, 255, 255, 1]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"y_test": None}, "no array y_test"),
        ({"x_train": np.zeros((6, 3, 4, 5), np.uint8)}, "moveaxis"),
        ({"x_train": np.zeros((6, 20), np.uint8)}, r"\[N, H, W\]"),
        ({"x_train": np.zeros((6, 4, 5, 3), np.int64)}, "astype"),
        ({"x_train": np.full((6, 4, 5, 3), 255.0)}, r"\[0, 1\]"),
        ({"x_train": np.full((6, 4, 5, 3), np.nan)}, r"\[0, 1\]"),
        ({"x_train": np.full((6, 4, 5, 3), None)}, "plain arrays"),
        ({"x_train": np.zeros((5, 4, 5, 3), np.uint8)}, "one per image"),
        ({"y_train": np.eye(6, dtype=np.int64)}, "argmax"),
        ({"y_train": np.zeros(6)}, "integers"),
        ({"y_train": np.array([0, 1, 2, 0, 1, -1])}, "number the classes"),
        ({"y_train": np.array([0, 1, 3, 0, 1, 3])}, r"label 2 \(2\)"),
        ({"x_test": np.zeros((3, 8, 8, 3), np.uint8)}, "must agree"),
        ({"x_test": np.zeros((0, 4, 5, 3), np.uint8), "y_test": np.zeros(0, int)}, "no test"),
    ],
)
def test_wrong_arrays_are_explained(tmp_path, changes, match):
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(UserError, match=match):
        load(tmp_path / "a.npz", tmp_path)


def test_unreadable_files_are_explained(tmp_path):
    whole, cut = tmp_path / "a.npz", tmp_path / "cut.npz"
    np.savez_compressed(whole, **arrays())
    cut.write_bytes(whole.read_bytes()[:-200])
    text, single = tmp_path / "b.npz", tmp_path / "c.npz"
    text.write_text("<html>")
    with open(single, "wb") as file:
        np.save(file, np.zeros(3))
    cases = [(cut, "cannot be read"), (text, "cannot be read"), (single, "single array"),
             (tmp_path / "none.npz", "no file"), (tmp_path, "no file")]  # fmt: skip
    for path, match in cases:
        with pytest.raises(UserError, match=match):
            load(path, tmp_path)


def test_a_damaged_member_is_explained(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays())
    content = bytearray(path.read_bytes())
    content[100:160] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load(path, tmp_path)
