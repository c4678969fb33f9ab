"""A survey of a folder: every problem is listed, and valid pictures are used."""

import os
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from etils import epath
from PIL import Image

from rtl_jax.data import load_dataset
from rtl_jax.errors import UserError
from rtl_jax.lab.my_images.survey import Survey, look_over
from tests.lab.my_images.pictures import photos, picture


def problems(survey: Survey) -> dict[str, str]:
    """Return the reason why each picture is excluded, by its path in the folder."""
    return {str(one.file.relative_to(survey.path)): one.problem for one in survey.left_out}


def test_a_good_folder_is_used_whole(tmp_path: Path) -> None:
    survey = look_over(photos(tmp_path / "p", {"red": 6, "blue": 5}), 8, folds=5)
    assert survey.counts() == {"blue": 5, "red": 6}
    assert not survey.left_out and not survey.tiny and not survey.empty and not survey.others


def test_every_oddity_is_named(tmp_path: Path) -> None:
    root = photos(tmp_path / "p", {"red": 8, "blue": 6, "green": 1})
    whole = (root / "red/000.png").read_bytes()
    (root / "red/cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "red/empty.jpg").write_bytes(b"")
    (root / "blue/text.webp").write_text("no picture at all")
    (root / "blue/phone.heic").write_bytes(b"heic")
    shutil.copy(root / "red/001.png", root / "red/again.png")
    picture("red", 2).save(root / "red/again.bmp")  # the same pixels in another format
    shutil.copy(root / "red/003.png", root / "blue/red.png")
    (root / "nothing").mkdir()
    (root / "blue/notes.txt").write_text("x")
    (root / "loose.png").write_bytes(whole)
    survey = look_over(root, 8, folds=6)
    found = problems(survey)
    assert {name for name, why in found.items() if why.startswith("broken")} == {
        "red/cut.png", "red/empty.jpg", "blue/text.webp", "blue/phone.heic"
    }  # fmt: skip
    assert found["red/again.png"] == f"duplicate of {root / 'red/001.png'}"
    assert found["red/again.bmp"] == f"duplicate of {root / 'red/002.png'}"
    assert found["red/003.png"] == found["blue/red.png"] == "the same image is in blue and red"
    assert "the class green has fewer than two valid training images" in found["green/000.png"]
    assert len(found) == 9
    assert survey.empty == ("nothing",)
    assert set(survey.others) == {root / "blue/notes.txt", root / "loose.png"}
    assert survey.counts() == {"blue": 6, "red": 7} and survey.tiny == []
    text = survey.describe()
    for name in (*found, "nothing", "loose.png", "notes.txt"):
        assert name in text
    assert "fewer than 7 images" in look_over(root, 8, folds=7).describe()


def test_kinds_of_pictures_are_counted(tmp_path: Path) -> None:
    root = photos(tmp_path / "p", {"red": 3, "blue": 3})
    one = picture("red", 50)
    one.convert("L").save(root / "red/grey.png")
    one.quantize(16).save(root / "red/palette.png")
    one.convert("RGBA").save(root / "red/alpha.png")
    levels = np.asarray(picture("red", 51).convert("L")).astype(np.uint16) * 257
    Image.fromarray(levels).save(root / "red/sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture("red", 52).save(root / "red/turned.jpg", exif=exif)
    picture("red", 53, (30, 20)).save(root / "red/large.webp")
    survey = look_over(root, 8, folds=2)
    assert Counter(kind for one in survey.used for kind in one.kinds) == {
        "greyscale": 1, "palette": 1, "with transparency": 1, "16-bit": 1,
        "rotated by EXIF": 1,
    }  # fmt: skip
    (sizes,) = [line for line in survey.remarks() if line.startswith("sizes")]
    assert sizes.startswith("sizes: shorter sides of 10 to 20 pixels, median")
    assert Counter(one.format for one in survey.used) == {"PNG": 10, "JPEG": 1, "WEBP": 1}


def test_test_pictures_keep_their_duplicates(tmp_path: Path) -> None:
    photos(tmp_path / "p/train", {"red": 4, "blue": 4})
    photos(tmp_path / "p/test", {"red": 2})
    (tmp_path / "p/test/green").mkdir()
    picture("green", 0).save(tmp_path / "p/test/green/0.png")
    survey = look_over(tmp_path / "p", 8, folds=2)
    assert survey.divided and survey.counts() == {"blue": 4, "red": 2}
    assert survey.counts("test") == {"blue": 0, "red": 2}
    found = problems(survey)
    assert set(found) == {"train/red/000.png", "train/red/001.png", "test/green/0.png"}
    assert found["train/red/000.png"].startswith("duplicate of")


def test_the_list_it_writes_is_read_as_a_data_set(tmp_path: Path) -> None:
    root = photos(tmp_path / "p", {"red": 4, "blue": 3})
    (root / "red/broken.png").write_bytes(b"")
    survey = look_over(root, 8, folds=2)
    path = survey.write(epath.Path(tmp_path))
    found = load_dataset(f"list:{path}", data_dir=None, image_size=8, test_on_train=True)
    assert found.class_names == ("blue", "red") and found.train_counts.tolist() == [3, 4]
    table = pd.read_csv(tmp_path / "survey.csv")
    assert len(table) == 8 and table["problem"].notna().sum() == 1


def test_too_little_is_an_error(tmp_path: Path) -> None:
    root = photos(tmp_path / "p", {"red": 4, "blue": 1})
    with pytest.raises(UserError, match=r"at least two classes with two valid images each") as why:
        look_over(root, 8, folds=2)
    (line,) = str(why.value).splitlines()[1:]
    assert line == (
        f"  1, such as {root / 'blue/000.png'}: the class blue has fewer than two valid training "
        "images"
    )
    with pytest.raises(UserError, match=r"there is no folder"):
        look_over(tmp_path / "absent", 8, folds=2)


def test_everything_left_out_says_why(tmp_path: Path) -> None:
    root = photos(tmp_path / "p", {"red": 3, "blue": 2})
    for file in root.rglob("*.png"):
        file.write_bytes(b"" if file.parent.name == "red" else b"text")
    (root / "blue/phone.heic").write_bytes(b"heic")
    with pytest.raises(UserError, match="and 6 images are left out:") as caught:
        look_over(root, 8, folds=2)
    lines = str(caught.value).splitlines()[1:]
    assert sum(int(line.split(",")[0]) for line in lines) == 6
    assert any("broken: .heic cannot be read" in line for line in lines)
    assert any("broken: it is not an image in a known format" in line for line in lines)


def test_odd_metadata_and_names_leave_pictures_in_use(tmp_path: Path, capsys) -> None:
    root = photos(tmp_path / "p", {"red": 3, "blue": 3})
    os.rename(root / "red", os.path.join(os.fsencode(root), b"r\xe9d"))
    red = root / os.fsdecode(b"r\xe9d")
    os.rename(red / "000.png", red / os.fsdecode(b"\xff.png"))
    (red / os.fsdecode(b"\xfe.png")).write_bytes(b"")
    # The resolution unit written as a byte, which PIL reads and cannot write (its issue 8965).
    unit = struct.pack("<HHIBBBB", 0x0128, 1, 1, 2, 0, 0, 0)
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2)
    picture("red", 50).save(red / "odd.jpg", exif=head + turned + unit + bytes(4))
    survey = look_over(root, 8, folds=2)
    assert survey.counts() == {"blue": 3, r"r\xe9d": 4}
    (odd,) = [one for one in survey.used if one.file.name == "odd.jpg"]
    assert odd.rotated
    print(survey.describe())
    assert r"r\xe9d/\xfe.png (broken" in capsys.readouterr().out
    path = survey.write(epath.Path(tmp_path))
    found = load_dataset(f"list:{path}", data_dir=None, image_size=8, test_on_train=True)
    assert found.train_counts.tolist() == [3, 4]
    assert len(pd.read_csv(tmp_path / "survey.csv")) == 8


def test_pictures_of_12_bits_are_a_question(tmp_path: Path) -> None:
    root = photos(tmp_path / "p", {"red": 3, "blue": 3})
    levels = np.random.default_rng(0).integers(0, 4096, (9, 9)).astype(np.uint16)
    Image.fromarray(levels).save(root / "red/thermal.png")
    with pytest.raises(UserError, match=r"p: the images with 16 bits per channel \(1\) .*4095"):
        look_over(root, 8, folds=2)
