"""Streamed datasets compared with the same datasets decoded in memory, image by image."""

import itertools
import json
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtl_jax.data import (
    decoded_bytes,
    draw_test_subset,
    load_dataset,
    open_stream,
    originals,
)
from rtl_jax.data.batches import Batch, Batches, Shuffle
from rtl_jax.data.crop import DRAWS, crop_box
from rtl_jax.data.stream import Stream
from rtl_jax.errors import UserError
from tests.data.prepared import example, image_feature, label_feature, png, write

pytestmark = pytest.mark.slow

pytest.importorskip("grain")
pytest.importorskip("array_record.python.array_record_module")

SIZE = 16
NAMES = ("cat", "dog", "emu")


@pytest.fixture(autouse=True)
def isolated(data_dir, no_network):
    """Use a separate data directory and cache."""


def photographs(root: Path, names=NAMES, each: int = 9, suffix: str = "jpg") -> Path:
    """Write noise of varying sizes, with train/ and test/."""
    rng = np.random.default_rng(len(names))
    for half, count in (("train", each), ("test", 4)):
        for name, i in itertools.product(names, range(count)):
            small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            path = root / half / name / f"{i}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(small).resize((40 + 3 * i, 33), Image.Resampling.BICUBIC).save(path)
    return root


def prepared(data_dir: Path, name: str = "toy", labels=(0, 1, 2), names=NAMES) -> str:
    """Write 24 training and 6 test images of varying size, whose red level is their number."""
    features = {"image": image_feature(-1, -1, 3), "label": label_feature(3)}

    def records(count: int, start: int) -> list[bytes]:
        sizes = [(20 + i % 5, 17) for i in range(count)]
        return [
            example(image=png(start + i, size, "RGB"), label=labels[i % len(labels)])
            for i, size in enumerate(sizes)
        ]

    path = write(data_dir, {"train": records(24, 0), "test": records(6, 100)}, features, name=name)
    (path / "label.labels.txt").write_text("\n".join(names) + "\n")
    return f"tfds:{name}"


def stream(spec: str, **options) -> Stream:
    return open_stream(spec, data_dir=None, **({"image_size": SIZE} | options))


def take(batches: Batches, count: int) -> Batch:
    """Concatenate the next `count` batches."""
    parts = list(itertools.islice(batches, count))
    return Batch(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def equal(first: Batch, second: Batch) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# ---- Against memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [None, (2, 0)])
@pytest.mark.parametrize("kind", ["folder", "tfds", "union"])
def test_images_and_labels_are_those_in_memory(kind, classes, data_dir, tmp_path):
    folder = f"folder:{photographs(tmp_path / 'photos')}"
    toy = prepared(data_dir, names=("dog", "emu", "cat"))
    spec = {"folder": folder, "tfds": toy, "union": f"{folder}+{toy}"}[kind]
    whole = load_dataset(spec, data_dir=None, image_size=SIZE, classes=classes)
    opened = stream(spec, classes=classes)
    assert opened.num_images == len(whole.train)
    assert (opened.class_names, opened.order) == (whole.class_names, whole.order)
    assert opened.num_classes == whole.num_classes
    batch = next(opened.batches(batch_size=opened.num_images, seed=3))
    assert sorted(batch.indices) == list(range(opened.num_images))
    assert [field.dtype for field in batch] == [np.uint8, np.int32, np.int32]
    np.testing.assert_array_equal(batch.images, whole.train.images[batch.indices])
    np.testing.assert_array_equal(batch.labels, whole.train.labels[batch.indices])
    for limit in (None, 4):
        test = opened.test(limit)
        rows = draw_test_subset(whole.test.labels, limit, whole.num_classes)
        np.testing.assert_array_equal(test.images, whole.test.images[rows])
        np.testing.assert_array_equal(test.labels, whole.test.labels[rows])


def test_grey_and_small_images_get_three_channels_and_the_size(data_dir):
    write(data_dir, {"train": [example(image=png(i), label=i % 2) for i in range(4)] * 2,
                     "test": [example(image=png(9), label=1)]})  # fmt: skip
    opened = stream("tfds:toy")
    batch = next(opened.batches(batch_size=8, seed=0))
    assert batch.images.shape == (8, SIZE, SIZE, 3)
    assert (batch.images == (batch.indices % 4)[:, None, None, None]).all()
    assert opened.test(None).images.shape == (1, SIZE, SIZE, 3)


# ---- Order, hosts and position -------------------------------------------------------------------


def test_an_epoch_has_each_image_at_most_once_in_an_order_of_its_own(data_dir):
    opened = stream(prepared(data_dir))
    batches = opened.batches(batch_size=7, seed=1)
    epochs = [take(batches, 24 // 7).indices.tolist() for _ in range(6)]
    assert all(len(set(epoch)) == 21 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert set(itertools.chain(*epochs)) == set(range(24))  # The three left out are others.
    assert take(opened.batches(batch_size=7, seed=1), 3).indices.tolist() == epochs[0]
    other = take(opened.batches(batch_size=7, seed=2), 3).indices.tolist()
    assert other not in epochs  # The next seed is not the same orders an epoch earlier.


def test_orders_are_uniform():
    """Each image comes first equally often: chi-squared over 2,000 epochs of 20 images."""
    shuffle = Shuffle(20, 20, seed=5, host=0, hosts=1)
    first = np.bincount([shuffle(20 * epoch)[1] for epoch in range(2000)], minlength=20)
    assert ((first - 100) ** 2 / 100).sum() < 45.3  # the 0.9995 quantile for 19 degrees


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_divide_the_same_batches(hosts, data_dir):
    opened = stream(prepared(data_dir))
    options = {"batch_size": 8, "seed": 4, "resized_crop": 0.3}
    alone = opened.batches(**options)
    shares = [opened.batches(**options, host=host, hosts=hosts) for host in range(hosts)]
    for _ in range(5):  # into the second epoch
        parts = [next(batches) for batches in shares]
        together = Batch(*(np.concatenate(field) for field in zip(*parts, strict=True)))
        assert equal(together, next(alone))
    assert {json.dumps(batches.get_state()) for batches in [alone, *shares]} == {
        '{"taken": 5, "images": 24, "batch_size": 8, "seed": 4}'
    }


@pytest.mark.parametrize("taken", [0, 2, 3, 7])
def test_a_restored_position_goes_on_identically(taken, data_dir):
    opened = stream(prepared(data_dir))
    options = {"batch_size": 8, "seed": 4, "resized_crop": 0.3}
    batches = opened.batches(**options)
    for _ in range(taken):
        next(batches)
    state = json.loads(json.dumps(batches.get_state()))
    expected = take(batches, 4)
    other = opened.batches(**options, threads=1)
    next(other)
    other.set_state(state)
    assert other.get_state() == state
    assert equal(take(other, 4), expected)
    batches.set_state(state)  # Back again, in the same iterator.
    assert equal(take(batches, 4), expected)
    # On half as many images a host.
    halves = [opened.batches(**options, host=host, hosts=2) for host in range(2)]
    for half in halves:
        half.set_state(state)
    first = [next(half).indices for half in halves]
    assert np.concatenate(first).tolist() == expected.indices[:8].tolist()


def test_worker_processes_give_the_same_batches(data_dir):
    opened = stream(prepared(data_dir))
    options = {"batch_size": 8, "seed": 4, "resized_crop": 0.3, "threads": 2}
    expected = take(opened.batches(**options), 7)
    batches = opened.batches(**options, workers=2)
    batches.set_state({"taken": 2, "images": 24, "batch_size": 8, "seed": 4})
    found = take(batches, 5)
    batches.close()
    assert equal(found, Batch(*(field[16:] for field in expected)))


def test_a_position_of_other_batches_is_refused(data_dir):
    opened = stream(prepared(data_dir))
    state = opened.batches(batch_size=8, seed=4).get_state()
    for options in ({"batch_size": 4, "seed": 4}, {"batch_size": 8, "seed": 5}):
        with pytest.raises(UserError, match="same data, batch size and seed"):
            opened.batches(**options).set_state(state)


# ---- Crops ---------------------------------------------------------------------------------------


def test_crops_are_cut_from_the_whole_picture(tmp_path):
    root = photographs(tmp_path / "photos", suffix="png")
    paths = [path for name in NAMES for path in sorted((root / "train" / name).iterdir())]
    opened = stream(f"folder:{root}")
    batches = opened.batches(batch_size=27, seed=11, resized_crop=0.2)
    for epoch, batch in zip(range(2), batches, strict=False):
        for image, index in zip(batch.images, batch.indices.tolist(), strict=True):
            picture = Image.open(paths[index])
            draws = np.random.default_rng((11, epoch, index)).random(DRAWS)
            box = crop_box(draws, picture.height, picture.width, 0.2)
            top, left, height, width = (int(edge) for edge in box)
            part = picture.crop((left, top, left + width, top + height))
            expected = part.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(image, np.asarray(expected))


def test_draws_of_images_and_epochs_are_independent():
    """Fractions of the area are uniform in [s, 1] over images, epochs and seeds."""
    for triples in (
        [(0, 0, i) for i in range(400)],
        [(0, i, 0) for i in range(400)],
        [(i, 0, 0) for i in range(400)],
    ):
        areas, aspects = [], []
        for triple in triples:
            box = crop_box(np.random.default_rng(triple).random(DRAWS), 4000, 4000, 0.25)
            areas.append(box[2] * box[3] / 4000**2)
            aspects.append(box[3] / box[2])
        assert min(areas) > 0.249 and max(areas) <= 1
        assert min(aspects) > 0.749 and max(aspects) < 1.334
        # Of a uniform number: its mean, and how often it lies in the lower half.
        assert abs(np.mean(np.array(areas) < 0.5) - 1 / 3) < 4 * 0.48 / math.sqrt(400)
        assert abs(np.mean(np.log(aspects))) < 4 * math.log(4 / 3) / math.sqrt(3 * 400)


# ---- What users get wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "workers"), [(b"no picture", 0), (None, 0), ("half", 0), ("half", 1)]
)
def test_a_damaged_picture_is_named(content, workers, tmp_path):
    root = photographs(tmp_path / "photos")
    opened = stream(f"folder:{root}")
    for half, read in (
        ("train", lambda: take(opened.batches(batch_size=9, seed=0, workers=workers), 4)),
        ("test", lambda: opened.test(None)),
    ):
        path = root / half / "dog" / "2.jpg"
        whole = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
        with pytest.raises(UserError, match="cannot be decoded") as caught:
            read()
        assert str(path) in str(caught.value)


def test_a_damaged_record_is_named(data_dir):
    good = [example(image=png(i), label=i % 2) for i in range(6)]
    write(data_dir, {"train": [*good, example(image=b"no", label=0)], "test": good})
    with pytest.raises(UserError, match=r"split train, record 6 cannot be decoded"):
        take(stream("tfds:toy").batches(batch_size=7, seed=0), 1)
    write(data_dir, {"train": [*good, example(image=png(1), label=7)], "test": good}, name="bad")
    with pytest.raises(UserError, match=r"record 6 has the label 7: it must lie in 0\.\.1"):
        take(stream("tfds:bad").batches(batch_size=7, seed=0), 1)
    with pytest.raises(UserError, match="record 6 has the label 7"):
        stream("tfds:bad", classes=(0, 1))
    path = write(data_dir, {"train": good, "test": good}, name="cut")
    opened = stream("tfds:cut")
    shard = path / "cut-train.array_record-00000-of-00001"
    content = shard.read_bytes()
    place = content.index(png(3)[-30:])
    shard.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(UserError, match="split train cannot be read"):
        take(opened.batches(batch_size=6, seed=0), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 25}, "expected 1 to 24, the training images of tfds:toy; received 25"),
        ({"batch_size": 0}, "received 0"),
        ({"batch_size": 9, "hosts": 2}, "multiple of the number of hosts"),
        ({"batch_size": 8, "hosts": 2, "host": 2}, r"host of 0\.\.1"),
        ({"batch_size": 8, "resized_crop": 1.5}, r"resized_crop in \[0, 1\]"),
        ({"batch_size": 8, "threads": 0}, "1 thread or more"),
        ({"batch_size": 8, "workers": -1}, "0 workers or more"),
    ],
)
def test_arguments_out_of_range(options, message, data_dir):
    with pytest.raises(UserError, match=message):
        stream(prepared(data_dir)).batches(**({"seed": 0} | options))


def test_what_cannot_be_streamed(data_dir, tmp_path, monkeypatch):
    spec = prepared(data_dir)
    with pytest.raises(UserError, match="read whole"):
        stream("digits")
    with pytest.raises(UserError, match="read whole"):
        stream(f"{spec}+npz:{tmp_path / 'x.npz'}")
    monkeypatch.setattr(originals, "find", lambda target, place: {"file": place})
    with pytest.raises(UserError, match="tfds:mnist cannot be streamed"):
        stream("tfds:mnist")
    with pytest.raises(UserError, match="unknown dataset"):
        stream("tfdz:toy")
    with pytest.raises(UserError, match="image_size"):
        stream(spec, image_size=0)
    with pytest.raises(UserError, match="different labels"):
        stream(spec, classes=(0, 3))
    prepared(data_dir, "other", names=("cat", "dog", "gnu"))
    with pytest.raises(UserError, match="first are emu, only in another gnu"):
        stream(f"{spec}+tfds:other")
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UserError, match="pip install grain"):
        stream(spec)


def test_a_class_without_training_images_is_named(tmp_path):
    """Its output would never be trained, and its test images never be right."""
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    lines = ["file,label,split", "a.png,cat,train", "b.png,dog,train", "c.png,gnu,test"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"no training image has the label 2 \(gnu\)"):
        stream(f"list:{tmp_path / 'list.csv'}")


def test_records_survive_the_way_to_another_process(data_dir, tmp_path):
    spec = f"folder:{photographs(tmp_path / 'photos')}+{prepared(data_dir)}"
    records = stream(spec, classes=(1, 2))._train
    again = pickle.loads(pickle.dumps(records))
    for index in range(len(records)):
        assert again.read(index) == records.read(index)


# ---- Size ----------------------------------------------------------------------------------------


def test_decoded_bytes_are_those_of_the_arrays(data_dir, tmp_path):
    photos = f"folder:{photographs(tmp_path / 'photos')}"
    for name, level in (("a/1.png", 3), ("a/2.png", 4), ("b/1.png", 5), ("b/2.png", 6)):
        path = tmp_path / "squares" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (7, 7), (level, 0, 0)).save(path)
    arrays = {
        f"{name}_{half}": np.zeros((4, 5, 5, 3) if name == "x" else 4, np.uint8)
        for name in "xy"
        for half in ("train", "test")
    }
    arrays["y_train"][:2] = 1
    np.savez_compressed(tmp_path / "arrays.npz", **arrays)
    write(data_dir, {"train": [example(image=png(i), label=i % 2) for i in range(8)],
                     "test": [example(image=png(9), label=1)]}, name="grey")  # fmt: skip
    for spec in (photos, f"folder:{tmp_path}/squares", "digits", prepared(data_dir), "tfds:grey"):
        whole = load_dataset(spec, data_dir=None, image_size=SIZE)
        expected = whole.train.images.nbytes + whole.test.images.nbytes
        assert decoded_bytes(spec, data_dir=None, image_size=SIZE) == expected, spec
    total = decoded_bytes(f"{photos}+tfds:grey", data_dir=None, image_size=SIZE)
    assert total == 39 * SIZE**2 * 3 + 9 * 4 * 5
    packed = decoded_bytes(f"npz:{tmp_path}/arrays.npz", data_dir=None, image_size=SIZE)
    assert packed == 2 * 4 * 5 * 5 * 3


def test_decoded_bytes_of_the_six_targets_need_no_file(data_dir):
    for name, million in (("mnist", 55), ("svhn_cropped", 305), ("cifar100", 184)):
        size = decoded_bytes(f"tfds:{name}", data_dir=None, image_size=224)
        assert round(size / 1e6) == million
    with pytest.raises(UserError, match="not prepared"):
        decoded_bytes("tfds:imagenet2012", data_dir=None, image_size=224)
    assert decoded_bytes("digits", data_dir=None, image_size=224) == 1797 * 64
