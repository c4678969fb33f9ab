"""Variants of Keras's arrays, and every way in which a .npz file can be invalid."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rtl_jax.data import decoded_bytes, load_dataset, npz
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
        ({"x_train": np.zeros((6, 20), np.uint8)}, r"\[N, height, width\]"),
        ({"x_train": np.zeros((6, 4, 5, 3), np.int64)}, "astype"),
        ({"x_train": np.full((6, 4, 5, 3), 255.0)}, r"\[0, 1\]"),
        ({"x_train": np.full((6, 4, 5, 3), np.nan)}, r"\[0, 1\], found some that are not numbers"),
        ({"x_train": np.full((6, 4, 5, 3), -1e-5, np.float32)}, r"\[0, 1\], found -1e-05"),
        ({"x_train": np.full((6, 4, 5, 3), None)}, "plain arrays"),
        ({"x_train": np.zeros((6, 0, 5, 3), np.uint8)}, r"received \[6, 0, 5, 3\]"),
        ({"x_train": np.zeros((6, 4, 5, 3), "u1,u1")}, "expected uint8"),
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
    with pytest.raises(UserError, match=match) as caught:
        load(tmp_path / "a.npz", tmp_path)
    assert str(tmp_path / "a.npz") in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_floats_may_leave_the_range_by_rounding(tmp_path, dtype):
    levels = np.linspace(0, 1, 6, dtype=dtype).reshape(6, 1, 1)
    levels[0], levels[5] = -3e-8, 1 + np.finfo(dtype).eps
    np.savez(tmp_path / "a.npz", **arrays(x_train=levels, x_test=levels[:3]))
    dataset = load(tmp_path / "a.npz", tmp_path)
    assert dataset.train.images.ravel().tolist() == [0, 51, 102, 153, 204, 255]


def test_other_orders_and_bytes_are_the_same_images(tmp_path):
    good = arrays()
    np.savez(tmp_path / "good.npz", **good)
    for name in ("x_train", "x_test"):
        good[name] = np.asfortranarray(good[name])
    good["y_train"] = good["y_train"].astype(">i4")
    np.savez(tmp_path / "a.npz", **good)
    first, second = (load(tmp_path / name, tmp_path) for name in ("good.npz", "a.npz"))
    np.testing.assert_array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(first.test.images, second.test.images)
    np.testing.assert_array_equal(first.train.labels, second.train.labels)


# ---- Archives that are damaged, or made to do damage -------------------------------------------


def npy(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    length = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header.encode("latin1") + body


def described(descr: str = "'|u1'", shape: str = "(1,)", more: str = "", **options) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}{more}\n"
    return npy(text, **options)


def archive(path: Path, kind: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    """Write the valid arrays, with some members replaced."""
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, array in arrays().items():
            stream = io.BytesIO()
            np.save(stream, array)
            file.writestr(f"{name}.npy", members.get(name, stream.getvalue()))
    return path


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"hello",
        described(shape="(1000000000000, 8, 8, 3)"),
        described(shape="(99999999999999999999999, 8, 8, 3)"),
        described(shape="(-1, 8, 8, 3)", body=b"x" * 192),
        described(shape="(1.5,)"),
        described(shape="(True, 8, 8, 3)", body=b"x" * 192),
        described(descr="5"),
        described(descr="'|u1\x00'"),
        described(descr="[('a', '|u1', (100000, 100000))]", shape="(3,)"),
        described(more=" " * 10_000_000, version=(2, 0)),
        npy("__import__('os').system('false')\n"),
        npy("(" * 3000 + ")" * 3000 + "\n"),
        npy("{}", version=(9, 0)),
        npy("{}")[:9],
        described(shape="(6, 4, 5, 3)", body=b"x" * 359),
        described(shape="(6, 4, 5, 3)", body=b"x" * 361),
    ],
)
def test_headers_that_lie_are_refused_unread(tmp_path, member):
    path = archive(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, x_train=member)
    with pytest.raises(UserError, match=r"a.npz cannot be read as a .npz .*numpy.savez") as caught:
        load(path, tmp_path)
    assert len(str(caught.value)) < 700
    with pytest.raises(UserError, match="cannot be read"):
        decoded_bytes(f"npz:{path}", data_dir=None, image_size=8)


@pytest.mark.parametrize(
    ("byte", "value", "kind"),
    [("flags", 1, "encrypted"), *[("method", value, "") for value in (99, 93, 12, 14, 8)]],
)
def test_encryption_and_other_compressions_are_refused(tmp_path, byte, value, kind):
    """The header names the method; data in a method known to Python (12: bz2, 14: lzma) differ."""
    path = archive(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    for head, places in ((b"PK\3\4", (6, 8)), (b"PK\1\2", (8, 10))):
        place = content.find(head)
        while place >= 0:
            content[place + places[byte == "method"]] = value
            place = content.find(head, place + 4)
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.npz cannot be read.*{kind}"):
        load(path, tmp_path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_python_knows_are_read(tmp_path, kind):
    images = load(archive(tmp_path / "a.npz", kind), tmp_path).train.images
    np.testing.assert_array_equal(images, arrays()["x_train"])


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    """50 MB of zeros in 50 KB: too many images for the labels, then too many for the memory."""
    bomb = described(shape="(1000000, 4, 4, 3)", body=bytes(48_000_000))
    stream = io.BytesIO()
    np.save(stream, np.zeros(1_000_000, np.uint8))
    few = archive(tmp_path / "few.npz", zipfile.ZIP_DEFLATED, x_train=bomb)
    many = archive(
        tmp_path / "many.npz", zipfile.ZIP_DEFLATED, x_train=bomb, y_train=stream.getvalue()
    )
    monkeypatch.setattr(npz, "host_free", lambda: 40_000_000)
    monkeypatch.setattr(npz, "read_array", None)
    with pytest.raises(UserError, match="few.npz: x_train has 1000000 images and y_train 6 labels"):
        load(few, tmp_path)
    with pytest.raises(UserError, match="many.npz: its arrays need 0.0 GiB of memory.*keep fewer"):
        load(many, tmp_path)
    assert decoded_bytes(f"npz:{many}", data_dir=None, image_size=8) == 48_000_180


def test_further_arrays_are_named(tmp_path, caplog):
    np.savez(tmp_path / "a.npz", **arrays(x_val=np.zeros(3), y_val=np.zeros(3)))
    load(tmp_path / "a.npz", tmp_path)
    assert "arrays that are not used: x_val, y_val" in caplog.text


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
