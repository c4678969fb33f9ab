"""Folders of photographs: the two layouts, the seeded split, and users' mistakes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtl_jax.data import folder, listing, load_dataset, open_stream, pictures, sources
from rtl_jax.errors import UserError


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("RTL_JAX_CACHE_DIR", str(tmp_path / "cache"))


def write(path: Path, level: int = 0, size: tuple[int, int] = (12, 9), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = level if mode == "L" else (level, 0, 255 - level)
    Image.new(mode, size, colour).save(path)
    return path


def photos(root: Path, counts: dict[str, int], level: int = 0) -> Path:
    """Write pictures with distinct red levels, by which rows can be recognised."""
    for name, count in counts.items():
        for i in range(count):
            write(root / name / f"{i:03}.png", level, size=(12 + i % 3, 9))
            level += 1
    return root


def load(path: Path, **options):
    return load_dataset(f"folder:{path}", data_dir=None, **({"image_size": 8} | options))


def levels(half) -> list[int]:
    return half.images[:, 4, 4, 0].tolist()


def test_a_seeded_stratified_split(tmp_path):
    root = photos(tmp_path / "p", {"cats": 20, "dogs": 10, "emu": 2})
    first = load(root, seed=1)
    assert first.class_names == ("cats", "dogs", "emu")
    assert first.order == "original"
    assert first.train.images.shape == (25, 8, 8, 3)
    assert first.train_counts.tolist() == [16, 8, 1]
    assert np.bincount(first.test.labels).tolist() == [4, 2, 1]
    # Every picture is in exactly one half, under its own label.
    assert sorted(levels(first.train) + levels(first.test)) == list(range(32))
    for half in (first.train, first.test):
        expected = [0 if v < 20 else 1 if v < 30 else 2 for v in levels(half)]
        assert half.labels.tolist() == expected
    assert load(root, seed=1, image_size=5).train.images.shape == (25, 5, 5, 3)
    again, other = load(root, seed=1), load(root, seed=2)
    assert levels(again.test) == levels(first.test)
    assert levels(other.test) != levels(first.test)


def test_another_class_leaves_the_split_of_the_others(tmp_path):
    root = photos(tmp_path / "p", {"cats": 20, "dogs": 10})
    before = folder.plan_folder(root, 0)
    write(root / "ants" / "x.png")
    after = folder.plan_folder(root, 0)
    assert [path for path, _ in before.test] == [path for path, _ in after.test]


def test_a_class_with_one_picture_trains_on_it(tmp_path):
    dataset = load(photos(tmp_path / "p", {"cats": 5, "emu": 1}))
    assert dataset.train_counts.tolist() == [4, 1]


@pytest.mark.parametrize(
    ("train_name", "test_name"),
    [("train", "test"), ("Train", "val"), ("TRAIN", "Validation"), ("Training", "Testing")],
)
def test_folders_for_train_and_test(tmp_path, train_name, test_name):
    root = tmp_path / "p"
    photos(root / train_name, {"a": 2, "b": 3, "c": 1})
    photos(root / test_name, {"c": 2, "a": 1}, level=100)
    dataset = load(root)
    assert levels(dataset.train) == list(range(6))
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 1, 2]
    assert dataset.test.labels.tolist() == [0, 2, 2]
    assert levels(dataset.test) == [102, 100, 101]


def test_training_may_be_a_class(tmp_path):
    root = tmp_path / "activities"
    photos(root, {"cooking": 4, "running": 4, "training": 4})
    assert load(root).class_names == ("cooking", "running", "training")


def test_sizes_native_or_resized(tmp_path):
    for size, image_size, expected in (((6, 6), 8, 6), ((6, 6), 4, 4), ((6, 5), 8, 8)):
        root = tmp_path / f"{size[1]}-{image_size}"
        for level, name in enumerate(("a/0", "a/1", "b/0", "b/1")):
            write(root / f"{name}.png", level, size=size)
        assert load(root, image_size=image_size).train.images.shape[1:] == (expected, expected, 3)


def test_grey_keeps_one_channel_and_junk_is_ignored(tmp_path, caplog):
    root = tmp_path / "p"
    for i in range(2):
        write(root / "a" / f"{i}.png", 40 + i, mode="L")
        write(root / "b" / "deeper" / f"{i}.JPG", 90 + i, size=(20, 20), mode="L")
    (root / "a" / ".DS_Store").write_bytes(b"x")
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / "notes.txt").write_text("x")
    (root / ".git").mkdir()
    (root / "readme.md").write_text("x")
    dataset = load(root)
    assert dataset.train.images.shape == (2, 8, 8, 1)
    assert [level // 10 for level in levels(dataset.train)] == [4, 9]
    assert "1 files are not images" in caplog.text and "notes.txt" in caplog.text


def test_broken_pictures_are_listed_and_mending_them_is_enough(tmp_path):
    root = photos(tmp_path / "p", {"a": 20, "b": 20})
    bad = [root / "a" / f"{i:03}.png" for i in range(7)]
    for path in bad:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"7 of 40 images.*remove or replace") as caught:
        load(root)
    listed = [path for path in bad if str(path) in str(caught.value)]
    assert len(listed) == 5 and "and 2 more" in str(caught.value)
    for path in bad:
        path.unlink()
    assert len(load(root).train) + len(load(root).test) == 33


def test_the_second_load_decodes_nothing(tmp_path, monkeypatch):
    root = photos(tmp_path / "p", {"a": 4, "b": 4})
    first = load(root)
    with monkeypatch.context() as patched:
        patched.setattr(pictures, "decode", None)
        second = load(root)
    assert (first.train.images == second.train.images).all()
    assert first.class_names == second.class_names
    # A changed picture is noticed.
    write(root / "a" / "000.png", 200)
    third = load(root)
    assert 200 in levels(third.train) + levels(third.test)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: None, "no folder"),
        (lambda p: p.mkdir(), "at least two, and has none"),
        (lambda p: write(p / "a" / "0.png"), "at least two, and has a"),
        (lambda p: (write(p / "a" / "0.png"), (p / "b").mkdir()), "without an image: b"),
        (lambda p: photos(p / "train", {"a": 1, "b": 1}), "add test/"),
        (
            lambda p: (photos(p / "train", {"a": 1, "b": 1}), photos(p / "test", {"a": 1, "c": 1})),
            "lacks: c",
        ),
        (
            lambda p: (photos(p, {"a": 2, "b": 2}), (p / "a" / "x.HEIC").write_bytes(b"x")),
            "convert them to JPEG",
        ),
        (lambda p: photos(p, {"a": 1, "b": 1}), "no test images"),
        (lambda p: photos(p, {"Test": 2, "val": 2}), "Test, val, which .* training images train"),
        (lambda p: photos(p, {"dev": 2, "Eval": 2}), "Eval, dev, which .* rename the classes"),
    ],
)
def test_wrong_folders_are_explained(tmp_path, make, match):
    make(tmp_path / "p")
    with pytest.raises(UserError, match=match):
        load(tmp_path / "p")


def test_a_home_path_is_expanded(tmp_path, monkeypatch):
    photos(tmp_path / "p", {"a": 2, "b": 2})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_dataset("folder:~/p", data_dir=None, image_size=8).train) == 2


def test_the_files_of_training_images_are_known(tmp_path):
    """For a union too, with the first dataset's class numbers; not if some images are not files."""
    first, second = photos(tmp_path / "p", {"a": 5, "b": 5}), tmp_path / "q"
    write(second / "train" / "b" / "x.png", 100)
    write(second / "train" / "a" / "y.png", 101)
    write(second / "test" / "a" / "z.png", 102)
    write(second / "test" / "b" / "z.png", 103)
    spec = f"folder:{first}+folder:{second}"
    dataset = load_dataset(spec, data_dir=None, image_size=8)
    files = sources.training_files(spec)
    assert [label for _, label in files] == dataset.train.labels.tolist()
    shown = [np.asarray(Image.open(file))[4, 4, 0] for file, _ in files]
    assert shown == levels(dataset.train)
    assert sources.training_files("digits") is None
    assert sources.training_files(f"folder:{first}+digits") is None


LATIN = b"caf\xe9"  # as an old system or a zip file leaves it: no UTF-8


def test_names_that_are_not_utf8(tmp_path):
    """Files are read, and everything derived from their names can be written."""
    root = photos(tmp_path / "p", {"a": 3, "b": 3})
    os.rename(root / "b", os.path.join(os.fsencode(root), LATIN))
    name = os.fsdecode(LATIN)
    os.rename(root / name / "000.png", root / name / f"{name}.png")
    first, second = load(root), load(root)
    assert first.class_names == second.class_names == ("a", r"caf\xe9")
    assert json.loads(json.dumps(first.class_names)) == list(first.class_names)
    first.class_names[1].encode()
    # A list keeps the bytes of the files' names, and has labels that can be printed.
    plan = folder.plan_folder(root, 0)
    rows = [(file, plan.class_names[label], "train") for file, label in plan.train]
    rows += [(file, plan.class_names[label], "test") for file, label in plan.test]
    listing.write_list(tmp_path / "list.csv", rows)
    listed = load_dataset(f"list:{tmp_path / 'list.csv'}", data_dir=None, image_size=8)
    assert levels(listed.train) == levels(first.train)
    assert listed.class_names == first.class_names
    (tmp_path / "latin.csv").write_bytes(b"file,label\nx.png," + LATIN + b"\n")
    with pytest.raises(UserError, match=r"the label caf\\xe9 is not UTF-8: save the list as"):
        load_dataset(f"list:{tmp_path / 'latin.csv'}", data_dir=None, image_size=8)
    with pytest.raises(UserError, match=r"caf\\\\xe9' has a name that is not UTF-8") as caught:
        load(root / name)
    str(caught.value).encode()


def test_a_folder_of_12_bits_is_a_question(tmp_path):
    """The question concerns the whole dataset, so that both halves and later pictures agree."""
    rng = np.random.default_rng(0)
    for number in range(10):
        path = tmp_path / "p" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 4096, (8, 8)).astype(np.uint16)).save(path)
    with pytest.raises(
        UserError, match=r"p: the images with 16 bits per channel \(10\) .*\* 65535 // 4095"
    ):
        load(tmp_path / "p")
    with pytest.raises(UserError, match="images with 16 bits per channel"):
        open_stream(f"folder:{tmp_path / 'p'}", data_dir=None, image_size=8)
