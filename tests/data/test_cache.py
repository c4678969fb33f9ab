"""A second load decodes nothing, and damage to the cache costs only time."""

import os
from pathlib import Path

import numpy as np
import pytest

from rtl_jax.data import cache
from rtl_jax.data.dataset import Decoded, ImageSet
from rtl_jax.errors import UserError


class Decoder:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Decoded:
        self.calls += 1
        images = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)
        half = ImageSet(images, np.array([0, 1], np.int32))
        return Decoded(half, half, ("a", "ü"))


def check(decoded: Decoded) -> None:
    assert decoded.train.images.ravel().tolist() == list(range(18))
    assert decoded.test.labels.tolist() == [0, 1]
    assert decoded.class_names == ("a", "ü")


def entries(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "decoded").iterdir())


def test_the_second_load_decodes_nothing(tmp_path):
    decoder = Decoder()
    for _ in range(3):
        check(cache.fetch(tmp_path, "k", decoder))
    assert decoder.calls == 1
    assert entries(tmp_path) == ["k"]


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_entry_is_built_again(tmp_path, caplog, name, damage):
    decoder = Decoder()
    cache.fetch(tmp_path, "k", decoder)
    path = tmp_path / "decoded" / "k" / name
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-3])
    elif damage == "flip":
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    else:
        path.unlink()
    check(cache.fetch(tmp_path, "k", decoder))
    assert decoder.calls == 2
    assert "damaged" in caplog.text
    check(cache.fetch(tmp_path, "k", decoder))
    assert decoder.calls == 2
    assert entries(tmp_path) == ["k"]


def test_a_full_disk_is_a_warning(tmp_path, monkeypatch, caplog):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    decoder = Decoder()
    check(cache.fetch(tmp_path, "k", decoder))
    assert "No space left" in caplog.text and "RTL_JAX_CACHE_DIR" in caplog.text
    assert entries(tmp_path) == []


def test_a_cache_that_cannot_be_made_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    check(cache.fetch(tmp_path / "file", "k", Decoder()))
    assert "cannot be kept" in caplog.text


def test_a_faster_process_wins(tmp_path):
    slow = Decoder()

    def overtaken() -> Decoded:
        cache.fetch(tmp_path, "k", Decoder())
        return slow()

    check(cache.fetch(tmp_path, "k", overtaken))
    check(cache.fetch(tmp_path, "k", slow))
    assert slow.calls == 1
    assert entries(tmp_path) == ["k"]


def test_errors_of_the_decoder_pass_and_leave_nothing(tmp_path):
    def fail() -> Decoded:
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        cache.fetch(tmp_path, "k", fail)
    assert not (tmp_path / "decoded").exists()


def test_the_key_follows_the_files_and_settings(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    os.utime(path, ns=(0, 0))
    keys = [cache.key("npz:a", files=[path])]
    keys.append(cache.key("npz:a", files=[path], settings=[32]))
    keys.append(cache.key("npz:b", files=[path]))
    os.utime(path, ns=(1, 1))
    keys.append(cache.key("npz:a", files=[path]))
    path.write_text("longer")
    keys.append(cache.key("npz:a", files=[path]))
    assert len(set(keys)) == len(keys)
    assert cache.key("npz:a", files=[path]) == keys[-1]
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for key in keys)
