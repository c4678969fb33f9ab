"""The six targets, read from small files of their formats, written byte by byte."""

import dataclasses
import gzip
import hashlib
import io
import socket
import struct
import tarfile
import time

import numpy as np
import pytest
import scipy.io

from rtl_jax.data import load_dataset, originals
from rtl_jax.errors import UserError

GENERATOR = np.random.default_rng(0)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 0, 8, 7], np.uint8)


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes())


def idx_files() -> tuple[dict[str, bytes], np.ndarray]:
    images = GENERATOR.integers(0, 256, (11, 28, 28), dtype=np.uint8)
    return {
        "train-images-idx3-ubyte.gz": idx(images),
        "train-labels-idx1-ubyte.gz": idx(LABELS),
        "t10k-images-idx3-ubyte.gz": idx(images[:3]),
        "t10k-labels-idx1-ubyte.gz": idx(LABELS[:3]),
    }, images[..., None]


def mat_files() -> tuple[dict[str, bytes], np.ndarray]:
    images = GENERATOR.integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
    files = {}
    for name, rows in (("train", slice(None)), ("test", slice(3))):
        stream = io.BytesIO()
        stored = np.where(LABELS[rows] == 0, 10, LABELS[rows])[:, None]  # SVHN writes 0 as 10.
        content = {"X": images[rows].transpose(1, 2, 3, 0), "y": stored.astype(np.uint8)}
        scipy.io.savemat(stream, content, do_compression=True)
        files[f"{name}_32x32.mat"] = stream.getvalue()
    return files, images


def tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def record(image: np.ndarray, *labels: int) -> bytes:
    """Encode a CIFAR record pixel by pixel: all red values, row by row, then green, then blue."""
    pixels = [int(image[y, x, c]) for c in range(3) for y in range(32) for x in range(32)]
    return bytes(labels) + bytes(pixels)


def cifar10_files() -> tuple[dict[str, bytes], np.ndarray]:
    images = GENERATOR.integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
    records = [record(image, label) for image, label in zip(images, LABELS, strict=True)]
    folder = "cifar-10-batches-bin"
    # Not in order in the archive, as in the real one.
    members = {f"{folder}/{name}": content for name, content in {
        "data_batch_2.bin": b"".join(records[2:4]), "data_batch_1.bin": b"".join(records[:2]),
        "batches.meta.txt": "\n".join(f"class{i}" for i in range(10)).encode() + b"\n\n",
        "data_batch_3.bin": records[4], "data_batch_5.bin": b"".join(records[7:]),
        "data_batch_4.bin": b"".join(records[5:7]), "test_batch.bin": b"".join(records[:3]),
        "readme.html": b"x"}.items()}  # fmt: skip
    return {"cifar-10-binary.tar.gz": tar(members)}, images


def cifar100_files() -> tuple[dict[str, bytes], np.ndarray]:
    images = GENERATOR.integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
    records = [record(image, 19, label) for image, label in zip(images, LABELS, strict=True)]
    members = {
        "cifar-100-binary/train.bin": b"".join(records),
        "cifar-100-binary/test.bin": b"".join(records[:3]),
        "cifar-100-binary/coarse_label_names.txt": b"wrong\n" * 20,
        "cifar-100-binary/fine_label_names.txt": "\n".join(f"class{i}" for i in range(10)).encode(),
    }
    return {"cifar-100-binary.tar.gz": tar(members)}, images


MAKERS = {
    "mnist": idx_files,
    "fashion_mnist": idx_files,
    "kmnist": idx_files,
    "svhn_cropped": mat_files,
    "cifar10": cifar10_files,
    "cifar100": cifar100_files,
}


def register(monkeypatch, name: str, files: dict[str, bytes], url: str) -> None:
    """Register these files with their digests at `url`."""
    target = originals.TARGETS[name]
    assert {file.name for file in target.files} == set(files)
    small = tuple(
        dataclasses.replace(
            file,
            url=url + file.name,
            size=len(files[file.name]),
            sha256=hashlib.sha256(files[file.name]).hexdigest(),
        )
        for file in target.files
    )
    monkeypatch.setitem(originals.TARGETS, name, dataclasses.replace(target, files=small))


def load(name: str):
    return load_dataset(f"tfds:{name}", data_dir=None, image_size=224)


@pytest.mark.parametrize("name", MAKERS)
def test_downloaded_parsed_and_kept(name, server, data_dir, monkeypatch):
    files, images = MAKERS[name]()
    server.files |= files
    register(monkeypatch, name, files, server.url)
    dataset = load(name)
    assert dataset.order == "original"
    assert dataset.train.images.dtype == np.uint8 and dataset.train.labels.dtype == np.int32
    assert (dataset.train.images == images).all()
    assert (dataset.test.images == images[:3]).all()
    assert dataset.train.labels.tolist() == LABELS.tolist()
    assert dataset.test.labels.tolist() == LABELS[:3].tolist()
    assert dataset.num_classes == 10
    place = data_dir / name / "original"
    assert sorted(path.name for path in place.iterdir()) == sorted(files)
    # Again: nothing is fetched, checked or parsed.
    count = len(server.requests)
    monkeypatch.setattr(originals, "read", None)
    again = load(name)
    assert (again.train.images == images).all() and again.class_names == dataset.class_names
    assert len(server.requests) == count


def test_class_names(server, data_dir, monkeypatch):
    names = {}
    for name, make in MAKERS.items():
        files, _ = make()
        register(monkeypatch, name, files, server.url)
        server.files |= files
        names[name] = load(name).class_names
    assert names["mnist"] == names["svhn_cropped"] == tuple("0123456789")
    assert names["kmnist"] == ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    assert names["fashion_mnist"][0] == "T-shirt/top" and names["fashion_mnist"][9] == "Ankle boot"
    assert names["cifar10"] == names["cifar100"] == tuple(f"class{i}" for i in range(10))


@pytest.mark.parametrize("folder", ["mnist/original", "mnist", "MNIST/raw"])
def test_files_that_the_user_put_are_found(folder, data_dir, monkeypatch, no_network):
    files, images = idx_files()
    register(monkeypatch, "mnist", files, "http://host.invalid/")
    (data_dir / folder).mkdir(parents=True)
    for name, content in files.items():
        (data_dir / folder / name).write_bytes(content)
    assert (load("mnist").train.images == images).all()


def test_an_archive_beside_the_folders_is_found(data_dir, monkeypatch, no_network):
    files, images = cifar10_files()
    register(monkeypatch, "cifar10", files, "http://host.invalid/")
    (data_dir / "cifar-10-binary.tar.gz").write_bytes(files["cifar-10-binary.tar.gz"])
    assert (load("cifar10").train.images == images).all()


def test_only_missing_files_are_downloaded(server, data_dir, monkeypatch):
    files, images = mat_files()
    register(monkeypatch, "svhn_cropped", files, server.url)
    server.files |= files
    (data_dir / "svhn_cropped").mkdir()
    (data_dir / "svhn_cropped" / "train_32x32.mat").write_bytes(files["train_32x32.mat"])
    assert (load("svhn_cropped").train.images == images).all()
    assert server.requests == [("test_32x32.mat", None)]


def test_original_files_come_before_a_prepared_set(data_dir, monkeypatch, no_network):
    files, images = idx_files()
    register(monkeypatch, "mnist", files, "http://host.invalid/")
    prepared = data_dir / "mnist" / "3.0.1"
    prepared.mkdir(parents=True)
    (prepared / "dataset_info.json").write_text("{")
    # While a file is missing, the prepared set (damaged here) comes before a download.
    for name, content in files.items():
        with pytest.raises(UserError, match="cannot be opened as a prepared TFDS set"):
            load("mnist")
        (data_dir / "mnist" / name).write_bytes(content)
    dataset = load("mnist")
    assert dataset.order == "original" and (dataset.train.images == images).all()


@pytest.mark.parametrize("name", MAKERS)
def test_without_network_the_error_says_file_place_and_extra(name, data_dir, no_network):
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        load(name)
    assert time.monotonic() - start < 10
    first = originals.TARGETS[name].files[0]
    message = str(caught.value)
    for expected in (first.name, first.url, str(data_dir / name / "original" / first.name),
                     "rtl-jax[prepare]"):  # fmt: skip
        assert expected in message


def test_without_a_route_the_error_comes_in_time(data_dir, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        files, _ = idx_files()
        register(monkeypatch, "mnist", files, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        start = time.monotonic()
        with pytest.raises(UserError, match="cannot be reached"):
            load("mnist")
        assert time.monotonic() - start < 10


def test_a_file_cut_off_by_the_user_is_named_and_left(data_dir, monkeypatch, no_network):
    files, _ = idx_files()
    register(monkeypatch, "mnist", files, "http://host.invalid/")
    (data_dir / "mnist").mkdir()
    for name, content in files.items():
        (data_dir / "mnist" / name).write_bytes(content)
    cut = data_dir / "mnist" / "train-images-idx3-ubyte.gz"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(UserError, match="sha256") as caught:
        load("mnist")
    assert str(cut) in str(caught.value) and "cut off" in str(caught.value)
    assert cut.exists()
    # Mending it is enough.
    cut.write_bytes(files[cut.name])
    assert len(load("mnist").train) == 11


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        idx(LABELS)[:-12],
        gzip.compress(b"\0\0\x08\x01"),
        gzip.compress(b"\0\0\x0d\x01\0\0\0\x01abcd"),
        gzip.compress(b"\0\0\x08\x01\0\0\0\x05abcd"),
        gzip.compress(b"\0\0\x08\x01\0\0\0\x03abcd"),
        idx(LABELS)[:14] + bytes(10) + idx(LABELS)[24:],
    ],
    # Not by content, which holds the time: every process must find the same tests.
    ids=["empty", "no gzip", "cut", "no size", "a float", "one short", "one long", "damaged"],
)
def test_damaged_idx_files_with_the_right_sha256(content, data_dir, monkeypatch, no_network):
    files, _ = idx_files()
    files["train-labels-idx1-ubyte.gz"] = content
    register(monkeypatch, "mnist", files, "http://host.invalid/")
    (data_dir / "mnist").mkdir()
    for name, data in files.items():
        (data_dir / "mnist" / name).write_bytes(data)
    with pytest.raises(UserError, match="cannot be decoded"):
        load("mnist")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("svhn_cropped", b"MATLAB 5.0 MAT-file" + bytes(200)),
        ("svhn_cropped", mat_files()[0]["test_32x32.mat"][:-500]),
        ("svhn_cropped", b""),
        ("cifar10", cifar10_files()[0]["cifar-10-binary.tar.gz"][:-2000]),
        ("cifar10", tar({"cifar-10-batches-bin/data_batch_1.bin": bytes(3073)})),
        ("cifar10", b"<html>"),
        ("cifar100", tar({"train.bin": bytes(3073), "test.bin": bytes(3074),
                          "fine_label_names.txt": b"a b"})),
    ],
)  # fmt: skip
def test_damaged_archives_with_the_right_sha256(name, content, data_dir, monkeypatch, no_network):
    files, _ = MAKERS[name]()
    files[next(reversed(files))] = content
    register(monkeypatch, name, files, "http://host.invalid/")
    (data_dir / name).mkdir()
    for file, data in files.items():
        (data_dir / name / file).write_bytes(data)
    with pytest.raises(UserError, match="cannot be decoded"):
        load(name)


def test_the_registry_equals_what_tfds_registers():
    tfds = pytest.importorskip("tensorflow_datasets")
    from pathlib import Path

    root = Path(tfds.__file__).parent
    for target in originals.TARGETS.values():
        text = root / "url_checksums" / f"{target.name}.txt"
        table = root / "datasets" / target.name / "checksums.tsv"
        lines = (text if text.exists() else table).read_text().splitlines()
        registered = {tuple(line.split("\t")[:3]) for line in lines}
        for file in target.files:
            assert (file.url, str(file.size), file.sha256) in registered
            assert file.url.endswith("/" + file.name)
