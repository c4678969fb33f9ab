"""Prepared TFDS directories, written record by record without TFDS or TensorFlow."""

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from rtl_jax.data import load_dataset, pictures, tfds
from rtl_jax.data.dataset import Dataset
from rtl_jax.errors import UserError
from tests.data.prepared import FEATURES, example, image_feature, label_feature, png, write

pytest.importorskip("array_record.python.array_record_module")
pytest.importorskip("tensorflow_datasets")


def rows(count: int, start: int = 0) -> list[bytes]:
    return [example(image=png(start + i), label=i % 2) for i in range(count)]


def load(name: str = "toy", image_size: int = 8) -> Dataset:
    return load_dataset(f"tfds:{name}", data_dir=None, image_size=image_size)


@pytest.fixture(autouse=True)
def isolated(data_dir, no_network):
    """Use no network, without which reading must work."""


def test_a_prepared_set(data_dir, monkeypatch):
    write(data_dir, {"train": rows(3000), "test": rows(4, 100)})
    dataset = load()
    assert dataset.order == "tfds"
    assert dataset.train.images.shape == (3000, 4, 5, 1)  # Native, though image_size is 8.
    assert dataset.train.images[:, 0, 0, 0].tolist() == [i % 256 for i in range(3000)]
    assert dataset.train.labels.tolist() == [i % 2 for i in range(3000)]
    assert dataset.test.images[:, 3, 4, 0].tolist() == [100, 101, 102, 103]
    assert dataset.class_names == ("0", "1")
    monkeypatch.setattr(pictures, "decode", None)
    assert (load().train.images == dataset.train.images).all()


def test_one_of_the_six_prepared_by_tfds_says_so(data_dir):
    write(data_dir, {"train": rows(4), "test": rows(4)}, name="mnist")
    assert load("mnist").order == "tfds"


def test_label_names_and_sizes_that_vary(data_dir):
    features = {"image": image_feature(-1, -1, 3), "label": label_feature(2)}
    sizes = [(9, 7), (30, 20), (8, 8), (100, 11)]
    records = [example(image=png(i, size, "RGB"), label=i % 2) for i, size in enumerate(sizes)]
    path = write(data_dir, {"train": records, "test": records[:1]}, features)
    (path / "label.labels.txt").write_text("cat\ndog\n")
    dataset = load()
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.images.shape == (4, 8, 8, 3)
    assert dataset.train.images[:, 4, 4].tolist() == [[i, 0, 9] for i in range(4)]
    assert load(image_size=6).train.images.shape == (4, 6, 6, 3)


def test_features_are_found_by_kind_and_by_supervised_keys(data_dir):
    def both(count: int) -> list[bytes]:
        return [example(photo=png(i), coarse=0, fine=i % 2) for i in range(count)]

    features = {"photo": image_feature(4, 5, 1), "fine": label_feature(2)}
    splits = {"train": both(4), "test": both(2)}
    write(data_dir, splits, features, name="kind")
    assert load("kind").train.labels.tolist() == [0, 1, 0, 1]
    features["coarse"] = label_feature(1)
    write(data_dir, splits, features, name="keys", supervised=("photo", "fine"))
    assert load("keys").train.labels.tolist() == [0, 1, 0, 1]
    write(data_dir, splits, features, name="unclear")
    with pytest.raises(UserError, match="not an image classification"):
        load("unclear")


def test_validation_stands_in_for_a_test_without_labels(data_dir):
    unlabelled = [example(image=png(7), label=-1)]
    write(data_dir, {"train": rows(4), "test": unlabelled, "validation": rows(2, 50)})
    assert load().test.images[:, 0, 0, 0].tolist() == [50, 51]
    write(data_dir, {"train": rows(4), "test": unlabelled}, name="none")
    with pytest.raises(UserError, match="labelled splits"):
        load("none")


def test_one_half_grey_by_chance(data_dir):
    features = {"image": image_feature(4, 5, 3), "label": label_feature(2)}
    colour = [example(image=png(i, mode="RGB"), label=i % 2) for i in range(4)]
    write(data_dir, {"train": colour, "test": rows(2)}, features)
    assert load().test.images.shape == (2, 4, 5, 3)


def test_versions_and_configurations(data_dir):
    for version, level in (("1.9.0", 1), ("1.10.0", 2), ("0.0.1", 3)):
        write(data_dir, {"train": rows(2, level), "test": rows(2)}, version=version)
    assert load().train.images[0, 0, 0, 0] == 2
    assert load("toy:1.9.0").train.images[0, 0, 0, 0] == 1
    for config, level in (("a", 4), ("b", 5)):
        write(data_dir, {"train": rows(2, level), "test": rows(2)}, name="many", config=config)
    assert load("many/b").train.images[0, 0, 0, 0] == 5
    with pytest.raises(UserError, match="tfds:many/a, tfds:many/b"):
        load("many")
    shutil.rmtree(data_dir / "many" / "a")
    assert load("many").train.images[0, 0, 0, 0] == 5


def test_a_directory_without_metadata_is_not_prepared(data_dir):
    (data_dir / "toy" / "1.0.0").mkdir(parents=True)
    with pytest.raises(UserError, match="not prepared"):
        load()


def test_tfrecord_is_explained(data_dir):
    write(data_dir, {"train": rows(2), "test": rows(2)}, file_format="tfrecord")
    with pytest.raises(UserError, match="tfds build toy --file_format=array_record"):
        load()


def test_other_kinds_of_sets_are_refused(data_dir):
    text = {"pythonClassName": FEATURES + "text_feature.Text", "text": {}}
    splits = {"train": [example(text=b"x", label=0)]}
    write(data_dir, splits, {"text": text, "label": label_feature(2)})
    with pytest.raises(UserError, match=r"not an image classification.*text \(Text\)"):
        load()
    depth = {"image": image_feature(4, 5, 1, "float32"), "label": label_feature(2)}
    write(data_dir, {"train": rows(2), "test": rows(2)}, depth, name="depth")
    with pytest.raises(UserError, match="float32"):
        load("depth")


def test_damage_is_explained(data_dir):
    path = write(data_dir, {"train": rows(20), "test": rows(2)})
    shard = path / "toy-train.array_record-00000-of-00001"
    content = shard.read_bytes()
    place = content.index(png(11)[-30:])
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for damaged in (content[: len(content) // 2], flipped, b"", None):
        shard.unlink()
        if damaged is not None:
            shard.write_bytes(damaged)
        with pytest.raises(UserError, match=r"missing or damaged|cannot be opened"):
            load()
        shard.write_bytes(content)
    assert len(load().train) == 20
    (path / "features.json").write_text("{")
    with pytest.raises(UserError, match="cannot be opened"):
        load()


def test_a_broken_image_is_explained(data_dir):
    write(data_dir, {"train": [*rows(2), example(image=b"no", label=0)], "test": rows(2)})
    with pytest.raises(UserError, match=r"1 of 3 images of the split train[\s\S]*record 2"):
        load()


@pytest.mark.parametrize("name", ["../x", "a b", "a/b/c", "a:1", "a:latest"])
def test_malformed_names(name):
    with pytest.raises(UserError, match=r"NAME\[/CONFIG\]"):
        load(name)


def test_not_prepared_and_no_tensorflow(data_dir, monkeypatch):
    write(data_dir, {"train": rows(2), "test": rows(2)}, name="there")
    monkeypatch.setattr(tfds.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        load("elsewhere/config:1.0.0")
    message = str(caught.value)
    for part in (str(data_dir / "elsewhere"), "there: there", "rtl-jax[prepare]", "folder:PATH"):
        assert part in message


def test_without_tfds_the_package_is_named(data_dir, monkeypatch):
    write(data_dir, {"train": rows(2), "test": rows(2)})
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match="pip install tensorflow-datasets"):
        load()


class FakeBuilder:
    """A TFDS builder that prepares by writing a directory."""

    def __init__(self, data_dir: Path, url: str, error: Exception | None = None) -> None:
        self.url_infos = {url: None}
        self.data_dir = str(data_dir / "toy" / "1.0.0")
        self.error = error
        self.configs: list[object] = []

    def download_and_prepare(self, download_config: object) -> None:
        self.configs.append(download_config)
        if self.error:
            raise self.error
        write(Path(self.data_dir).parents[1], {"train": rows(2), "test": rows(2)})


def with_tensorflow(monkeypatch, builder: FakeBuilder | Exception) -> None:
    import tensorflow_datasets

    def make(name: str, data_dir: Path, file_format: str) -> FakeBuilder:
        assert (name, file_format) == ("toy", "array_record")
        if isinstance(builder, Exception):
            raise builder
        return builder

    monkeypatch.setattr(tfds.importlib.util, "find_spec", lambda name: types)
    monkeypatch.setattr(tensorflow_datasets, "builder", make)


def test_with_tensorflow_tfds_prepares(data_dir, monkeypatch):
    builder = FakeBuilder(data_dir, "http://host.invalid/x")
    with_tensorflow(monkeypatch, builder)
    # Without network it is not even begun.
    with pytest.raises(UserError, match=r"preparing tfds:toy needs the network.*host\.invalid"):
        load()
    assert builder.configs == []
    monkeypatch.setattr(tfds, "check_reachable", lambda url, what: None)
    assert len(load().train) == 2
    assert builder.configs[0].try_download_gcs is False
    load()
    assert len(builder.configs) == 1


def test_failures_of_tfds_are_passed_on(data_dir, monkeypatch):
    monkeypatch.setattr(tfds, "check_reachable", lambda url, what: None)
    manual = AssertionError("Manual directory ... does not exist")
    with_tensorflow(monkeypatch, FakeBuilder(data_dir, "", manual))
    with pytest.raises(UserError, match=r"could not prepare toy.*Manual directory"):
        load()
    with_tensorflow(monkeypatch, ValueError("Dataset toy not found.\nlong list"))
    with pytest.raises(UserError, match=r"has no data set toy: Dataset toy not found\.$"):
        load()


def test_the_newest_version_is_a_number_not_a_word(data_dir):
    for version in ("2.0.0", "10.0.0"):
        write(data_dir, {"train": rows(2), "test": rows(2)}, version=version)
    found = tfds.find_prepared("toy", data_dir)
    assert found is not None and found.name == "10.0.0"
    assert tfds.find_prepared("nothing", data_dir) is None
    assert [path.suffix for path in tfds.files_of(found)][:2] == [".json", ".json"]
    assert np.all([path.is_file() for path in tfds.files_of(found)])
