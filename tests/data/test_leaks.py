"""Every way in which a training picture could be tested: each is reported and excluded."""

import itertools
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtl_jax.data import load_dataset, open_stream
from rtl_jax.data.dataset import Dataset, ImageSet
from rtl_jax.data.folder import plan_folder
from rtl_jax.data.folds import deal
from rtl_jax.data.leaks import same_images
from rtl_jax.data.listing import plan_list, write_list
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Target
from rtl_jax.lab.inputs import draw_rows


@pytest.fixture(autouse=True)
def cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("RTL_JAX_CACHE_DIR", str(tmp_path / "cache"))


def photos(root: Path, classes: str = "ab", number: int = 10, first: int = 0) -> Path:
    """Write pictures with distinct levels, from `first` on."""
    for level, (name, index) in enumerate(itertools.product(classes, range(number)), start=first):
        path = root / name / "deeper" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), level).save(path)
    return root


def copied(root: Path, other: Path, suffix: str = ".bmp", shift: int = 100) -> Path:
    """Copy each picture under its own name, brighter and in another format."""
    for path in root.rglob("*.png"):
        new = (other / path.relative_to(root)).with_suffix(suffix)
        new.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(Image.open(path)) + np.uint8(shift)).save(new)
    return other


def load(spec: str, **options) -> Dataset:
    return load_dataset(spec, data_dir=None, image_size=8, **options)


def levels(half: ImageSet) -> list[int]:
    return half.images[:, 4, 4, 0].tolist()


def held_out(root: Path, seed: int = 0) -> list[int]:
    """Return the levels of the pictures that the folder's own split holds out."""
    return [int(np.asarray(Image.open(file))[0, 0]) for file, _ in plan_folder(root, seed).test]


# ---- Copies under the same name ----------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_copies_only_those_of_held_out_pictures_are_tested(tmp_path, caplog, seed):
    root = photos(tmp_path / "p")
    copies = copied(root, tmp_path / "copies")
    plain = load(f"folder:{root}", seed=seed)
    found = load(f"folder:{root}", test=f"folder:{copies}", seed=seed)
    assert levels(found.train) == levels(plain.train)
    assert levels(found.test) == [level + 100 for level in levels(plain.test)]
    assert found.test.labels.tolist() == plain.test.labels.tolist()
    assert "16 of 20 test images are left out" in caplog.text and "same name" in caplog.text


def test_copies_of_part_of_the_pictures_and_more_besides(tmp_path):
    """Pictures without an original were not trained on; a held-out picture may have two copies."""
    root = photos(tmp_path / "p")
    copies = copied(root, copied(root, tmp_path / "copies"), suffix=".tif", shift=150)
    (root / "a/deeper/3.png").unlink()
    found = load(f"folder:{root}", test=f"folder:{copies}")
    tested = sorted([3, *held_out(root)])
    assert sorted(levels(found.test)) == sorted(
        level + shift for level in tested for shift in (100, 150)
    )


def test_a_folder_tested_on_itself_is_its_own_split(tmp_path):
    root = photos(tmp_path / "p")
    assert levels(load(f"folder:{root}", test=f"folder:{root}").test) == held_out(root)


def test_copies_for_a_folder_that_its_owner_divided(tmp_path):
    photos(tmp_path / "p/train", number=4)
    photos(tmp_path / "all", number=6)
    for name in "ab":
        (tmp_path / "p/test" / name / "deeper").mkdir(parents=True)
        for index in (4, 5):
            file = f"{name}/deeper/{index}.png"
            shutil.copy(tmp_path / "all" / file, tmp_path / "p/test" / file)
    copies = copied(tmp_path / "all", tmp_path / "copies")
    found = load(f"folder:{tmp_path / 'p'}", test=f"folder:{copies}")
    assert levels(found.test) == [104, 105, 110, 111]


def test_copies_for_a_list_are_known_by_class_and_file(tmp_path):
    root = photos(tmp_path / "p")
    plan = plan_folder(root, 0)
    rows = [(file, "ab"[label], "train") for file, label in plan.train]
    write_list(tmp_path / "list.csv", rows + [(f, "ab"[label], "test") for f, label in plan.test])
    copies = copied(root, tmp_path / "copies")
    found = load(f"list:{tmp_path / 'list.csv'}", test=f"folder:{copies}")
    assert levels(found.test) == [level + 100 for level in held_out(root)]


def test_what_cannot_be_told_is_a_question_with_two_answers(tmp_path):
    root = photos(tmp_path / "p")
    other = photos(tmp_path / "other", first=100)
    for path in sorted(other.rglob("*.png"))[:15]:
        path.rename(path.with_name(f"stylized_{path.name}"))
    spec = f"folder:{other}"
    with pytest.raises(UserError, match="cannot tell which images of .*other.* 5 of 20") as e:
        load(f"folder:{root}", test=spec)
    assert "give them the names of their originals" in str(e.value)
    # The one answer: they are other pictures.
    (tmp_path / "moved").mkdir()
    shutil.move(other, tmp_path / "moved/test")
    assert f"to {other / 'test'}" in str(e.value)
    found = load(f"folder:{root}", test=f"folder:{tmp_path / 'moved'}")
    assert sorted(levels(found.test)) == list(range(100, 120)) and len(found.train) == 16
    with pytest.raises(UserError, match="at least two, and has test"):
        load(f"folder:{tmp_path / 'moved'}")  # which has nothing to train on


def test_sets_without_names_are_compared_by_content(tmp_path, caplog):
    digits = load("digits", classes=(0, 1))
    for label, number in itertools.product((0, 1), range(6)):
        path = tmp_path / "p" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        half = digits.train if number < 4 else digits.test
        Image.fromarray(half.images[half.labels == label][number, ..., 0]).save(path)
    tested = f"folder:{tmp_path / 'p'}"
    for name in range(2, 10):
        shutil.copytree(tmp_path / "p/0", tmp_path / "p" / str(name))
    found = load("digits", test=tested, classes=(0, 1))
    assert found.test.labels.tolist() == [0, 0, 1, 1]
    assert "same content" in caplog.text and "same name" not in caplog.text


# ---- The same content --------------------------------------------------------------------------


def test_a_split_without_duplicates_stays_as_it_is(tmp_path, caplog):
    root = photos(tmp_path / "p")
    assert levels(load(f"folder:{root}").test) == held_out(root) and not caplog.text


def test_duplicates_of_training_pictures_are_not_tested(tmp_path, caplog):
    root = photos(tmp_path / "p")
    for path in sorted(root.glob("a/deeper/*.png"))[:7]:
        Image.open(path).convert("RGB").save(path.with_name(f"copy_{path.stem}.bmp"))
    plan = plan_folder(root, 0)
    names = {(f.parent.parent.name, f.stem.removeprefix("copy_")) for f, _ in plan.train}
    alone = [f for f, _ in plan.test
             if (f.parent.parent.name, f.stem.removeprefix("copy_")) not in names]  # fmt: skip
    assert 0 < len(alone) < len(plan.test)
    found = load(f"folder:{root}")
    assert len(found.train) == len(plan.train)
    assert levels(found.test) == [int(np.asarray(Image.open(f))[0, 0].flat[0]) for f in alone]
    assert f"{len(plan.test) - len(alone)} of {len(plan.test)} test images" in caplog.text


@pytest.mark.parametrize("kind", ["folder", "list"])
def test_the_owner_s_division_is_compared_too(tmp_path, caplog, kind):
    photos(tmp_path / "p/train", number=4)
    photos(tmp_path / "p/test", number=2, first=50)
    shutil.copy(tmp_path / "p/train/a/deeper/1.png", tmp_path / "p/test/b/deeper/x.png")
    spec = f"folder:{tmp_path / 'p'}"
    if kind == "list":
        files = sorted((tmp_path / "p").rglob("*.png"))
        rows = [(f, f.parent.parent.name, f.relative_to(tmp_path / "p").parts[0]) for f in files]
        write_list(tmp_path / "list.csv", rows)
        spec = f"list:{tmp_path / 'list.csv'}"
    assert levels(load(spec).test) == [50, 51, 52, 53]
    assert "1 of 5 test images are left out" in caplog.text and "b/deeper/x.png" in caplog.text


def test_nothing_left_to_test_is_an_error(tmp_path):
    photos(tmp_path / "p/train", number=4)
    shutil.copytree(tmp_path / "p/train", tmp_path / "p/test")
    with pytest.raises(UserError, match="every test image is also a training image"):
        load(f"folder:{tmp_path / 'p'}")


def test_arrays_keep_their_test_images_and_say_so(tmp_path, caplog):
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4), np.uint8)
    y = np.arange(8) % 2
    np.savez(tmp_path / "a.npz", x_train=images, y_train=y, x_test=images[4:], y_test=y[4:])
    assert len(load(f"npz:{tmp_path / 'a.npz'}").test) == 4
    assert "4 of 4 test images have the same pixels as a training image" in caplog.text


# ---- Several sets as one -----------------------------------------------------------------------


def test_a_folder_twice_trains_on_no_test_picture(tmp_path, caplog):
    root = photos(tmp_path / "p")
    once, twice = load(f"folder:{root}"), load(f"folder:{root}+folder:{root}")
    assert levels(twice.test) == levels(once.test) and not caplog.text
    # A part of it, with a split of its own, has other training pictures.
    part = tmp_path / "part"
    shutil.copytree(root, part)
    for index in range(3):
        (part / f"a/deeper/{index}.png").unlink()
        (part / f"b/deeper/{index}.png").unlink()
    trains = {level for level in range(20) if level % 10 > 2} - set(held_out(part))
    joined = load(f"folder:{root}+folder:{part}")
    assert levels(joined.test) == [level for level in held_out(root) if level not in trains]
    assert not set(levels(joined.train)) & set(levels(joined.test))


def test_copies_that_train_leave_their_originals_untested(tmp_path, caplog):
    """In memory and streamed."""
    root = photos(tmp_path / "p")
    copies = copied(root, tmp_path / "copies")
    for index in range(3):
        (copies / f"a/deeper/{index}.bmp").unlink()
    spec = f"folder:{root}+folder:{copies}"
    whole, stream = load(spec), open_stream(spec, data_dir=None, image_size=8)
    assert not {level + 100 for level in levels(whole.test)} & set(levels(whole.train))
    assert levels(whole.test) == levels(stream.test(None))
    assert 0 < len(whole.test) < 4 and caplog.text.count("have the same name") == 2
    assert "split both" in caplog.text


# ---- Lists and folds ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ("x/1.png,a,train\n2.png,b,train\nx/../x/1.png,a,test\n",
         "lines 2 and 4: .*has the split train and test"),
        ("1.png,a,train\n1.png,b,train\n", "lines 2 and 3: 1.png has the label a and b"),
        ("1.png,cat,train\n2.png,Cat,train\n3.png,cat ,test\n", "'Cat' and 'cat' and 'cat '"),
        ("1.png,a cat,train\n2.png,a  cat,train\n", "'a  cat' and 'a cat'"),
    ],
)  # fmt: skip
def test_lists_that_contradict_themselves(tmp_path, rows, match):
    (tmp_path / "list.csv").write_text(f"file,label,split\n{rows}")
    with pytest.raises(UserError, match=f"list.csv.*{match}"):
        plan_list(tmp_path / "list.csv")


def test_letters_of_both_cases_are_classes(tmp_path):
    (tmp_path / "list.csv").write_text("file,label\n1.png,a\n2.png,A\n2.png,A\n")
    assert plan_list(tmp_path / "list.csv").class_names == ("A", "a")


LABELS = np.repeat([0, 1], [12, 9]).astype(np.int32)


def test_the_same_images_are_in_one_fold():
    same = np.arange(21)
    same[[0, 5, 13, 20]] = 5  # in two classes
    same[[2, 3]] = 2
    found = deal(LABELS, 4, same)
    for number in (5, 2):
        assert len(set(found[same == number])) == 1
    others = np.flatnonzero(~np.isin(same, (5, 2)))
    np.testing.assert_array_equal(found[others], deal(LABELS, 4)[others])
    np.testing.assert_array_equal(deal(LABELS, 4, np.arange(21)), deal(LABELS, 4))
    with pytest.raises(UserError, match="label 1 has one"):
        deal(LABELS, 4, np.where(LABELS == 1, 0, np.arange(21)))
    with pytest.raises(UserError, match="so many are the same that fold . has none"):
        deal(LABELS, 5, np.arange(21) % 2)


@pytest.mark.parametrize(("size", "channels"), [((5, 9), 1), ((40, 33), 3)])
def test_same_images_are_equal_in_every_pixel(size, channels):
    """Compared with all pairs, with images that differ in a single pixel."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, *size, channels), np.uint8)
    images[20:30] = images[rng.integers(0, 20, 10)]
    images[30:] = images[:10]
    images[30:, -1, -2, 0] ^= 1
    found = same_images(ImageSet(images, np.zeros(40, np.int32)))
    flat = images.reshape(40, -1)
    truth = (flat[:, None] == flat).all(-1)
    np.testing.assert_array_equal(found[:, None] == found, truth)
    assert truth.sum() > 40


def test_no_fold_tests_what_another_trains_on():
    images = np.random.default_rng(0).integers(0, 256, (21, 4, 4, 3), np.uint8)
    images[[5, 13]] = images[0]
    images[7] = images[7, ..., :1]
    half = ImageSet(images, LABELS)
    assert same_images(half) is same_images(half)  # found once
    dataset = Dataset("x", half, half, ("a", "b"), "original")
    for fold in range(4):
        train, test = draw_rows(Target("x", folds=4, fold=fold), dataset, seed=1)
        shown = [{images[row].tobytes() for row in rows} for rows in (train, test)]
        assert not shown[0] & shown[1]


# ---- What is left out --------------------------------------------------------------------------


def test_folders_and_pictures_that_are_not_used_are_named(tmp_path, caplog):
    photos(tmp_path / "p/train", number=4)
    photos(tmp_path / "p/test", number=2, first=50)
    photos(tmp_path / "p/val", number=2, first=70)
    Image.new("L", (8, 8), 90).save(tmp_path / "p/train/loose.png")
    with caplog.at_level(logging.WARNING):
        assert len(load(f"folder:{tmp_path / 'p'}").train) == 8
    assert "those in train/, test images those in test/; not used: val" in caplog.text
    assert "images in no class's folder, skipped (1)" in caplog.text
    assert "loose.png" in caplog.text
