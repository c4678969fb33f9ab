"""The contract of dataset kinds: `check_data_source`, for present and future ones."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rtl_jax.data import decoded_bytes, load_dataset
from rtl_jax.data.dataset import Decoded
from rtl_jax.data.source import KINDS, DataSource, open_source, parse, parts
from rtl_jax.errors import UserError

IMAGE_SIZE = 16


def touch(file: Path) -> None:
    """Change a file's modification time."""
    os.utime(file, ns=(1, 1))


class Case(NamedTuple):
    """A small dataset of a kind.

    make: writes it to an empty directory, which is also the data directory, and returns its spec.
    missing: the spec of a missing dataset in that directory; None: the kind is always available.
    change: changes one of its files so that images or labels may differ.
    """

    make: Callable[[Path], str]
    missing: Callable[[Path], str] | None
    change: Callable[[Path], None] = touch


def check_data_source(case: Case, directory: Path) -> None:
    """Raise AssertionError unless a kind of dataset keeps the contract."""
    spec = case.make(directory)
    fresh = Opener(spec, directory)
    check_name(spec)
    decoded = check_reading(fresh)
    check_bytes(fresh(), decoded)
    check_plan(fresh(), decoded)
    check_records(fresh(), decoded)
    check_whole(spec, directory, decoded)
    check_cache_key(fresh, directory, case.change)
    if case.missing is not None:
        check_missing(case.missing(directory), directory)
        check_damage(fresh, directory)


class Opener(NamedTuple):
    """Opens a dataset anew, like another process."""

    spec: str
    data_dir: Path

    def __call__(self) -> DataSource:
        return open_source(self.spec, self.data_dir)


def check_name(spec: str) -> None:
    """It is registered, and its spec can be part of a union."""
    assert parse(spec)[0] in KINDS
    assert parts(f"{spec}+{spec}") == [spec, spec]


def check_reading(fresh: Opener) -> Decoded:
    """Reading twice gives the same uint8 images of one shape, and labels of the classes."""
    decoded, again = (fresh().read(IMAGE_SIZE, seed=1) for _ in range(2))
    assert decoded.class_names == again.class_names and len(set(decoded.class_names)) > 1
    assert all(isinstance(name, str) for name in decoded.class_names)
    for half, same in zip(halves(decoded), halves(again), strict=True):
        assert len(half) > 0 and half.images.dtype == np.uint8 and half.labels.dtype == np.int32
        assert half.images.shape[1:] == decoded.train.images.shape[1:]
        assert half.labels.min() >= 0 and half.labels.max() < len(decoded.class_names)
        np.testing.assert_array_equal(half.images, same.images)
        np.testing.assert_array_equal(half.labels, same.labels)
    tested = fresh().read(IMAGE_SIZE, seed=None)  # as other test images
    assert tested.class_names == decoded.class_names
    assert len(tested.test) >= len(decoded.test)
    assert len(tested.train) + len(tested.test) == len(decoded.train) + len(decoded.test)
    assert fresh().order in ("original", "tfds")
    return decoded


def check_bytes(source: DataSource, decoded: Decoded) -> None:
    """The estimate is an upper bound, at most three times the size: grey images count as colour."""
    real = sum(half.images.nbytes for half in halves(decoded))
    assert real <= source.decoded_bytes(IMAGE_SIZE) <= 3 * real


def check_plan(source: DataSource, decoded: Decoded) -> None:
    """If images are files, the plan lists the files that are read, in that order."""
    plan = source.plan(seed=1)
    if plan is None:
        return
    assert plan.class_names == decoded.class_names
    for rows, half in zip((plan.train, plan.test), halves(decoded), strict=True):
        assert [label for _, label in rows] == half.labels.tolist()
        assert all(file.is_file() for file, _ in rows)


def check_records(source: DataSource, decoded: Decoded) -> None:
    """It has a record for each image, or raises an error that it cannot be streamed."""
    try:
        records = source.records()
    except UserError as error:
        assert source.spec in str(error) and "cannot be streamed" in str(error)
        return
    assert (records.class_names, records.order) == (decoded.class_names, source.order)
    # A folder is divided by another seed here, in as many images.
    for half, whole in zip((records.train, records.test), halves(decoded), strict=True):
        assert len(half) == len(whole)
        assert half.labels().tolist() == [half.read(index)[1] for index in range(len(half))]
        assert np.bincount(half.labels()).tolist() == np.bincount(whole.labels).tolist()
        assert half.place(0) != half.place(len(half) - 1)


def check_whole(spec: str, directory: Path, decoded: Decoded) -> None:
    """`load_dataset` returns the same images, also from the cache, and selected classes."""
    options = {"data_dir": directory, "image_size": IMAGE_SIZE, "seed": 1}
    for _ in range(2):
        whole = load_dataset(spec, cache_dir=directory / "cache", **options)
        np.testing.assert_array_equal(whole.train.images, decoded.train.images)
        np.testing.assert_array_equal(whole.test.labels, decoded.test.labels)
    part = load_dataset(spec, cache_dir=directory / "cache", classes=(1, 0), **options)
    assert part.class_names == decoded.class_names[1::-1]
    assert decoded_bytes(spec, data_dir=directory, image_size=IMAGE_SIZE) > 0


def check_cache_key(fresh: Opener, directory: Path, change: Callable[[Path], None]) -> None:
    """The key is constant, and changes with every decoded file."""
    key = fresh().cache_key(IMAGE_SIZE, seed=1)
    assert key == fresh().cache_key(IMAGE_SIZE, seed=1)
    if key is None:
        return
    assert "/" not in key
    for file in files(directory):
        change(file)
        changed = fresh().cache_key(IMAGE_SIZE, seed=1)
        assert changed != key, file
        key = changed


def check_missing(spec: str, directory: Path) -> None:
    """A missing dataset is a user-fixable error that names the place."""
    with pytest.raises(UserError) as caught:
        load_dataset(spec, data_dir=directory, cache_dir=directory / "cache", image_size=8)
    assert parse(spec)[1] in str(caught.value)
    with pytest.raises(UserError) as caught:
        decoded_bytes(spec, data_dir=directory, image_size=8)
    assert parse(spec)[1] in str(caught.value)


def check_damage(fresh: Opener, directory: Path) -> None:
    """Truncated and garbage files are user-fixable errors that name the place."""
    for file in files(directory):
        whole = file.read_bytes()
        for content in (whole[: len(whole) // 2], b"rubbish"):
            if content != b"rubbish" and file.suffix == ".csv":
                continue  # half a list is a list
            file.write_bytes(content)
            with pytest.raises(UserError) as caught:
                fresh().read(IMAGE_SIZE, seed=1)
            assert str(file) in str(caught.value) or str(file.parent) in str(caught.value)
        file.write_bytes(whole)


def halves(decoded: Decoded) -> tuple:
    """Return both halves."""
    return decoded.train, decoded.test


def files(directory: Path) -> list[Path]:
    """Return the files of the dataset, without the cache."""
    every = sorted(path for path in directory.rglob("*") if path.is_file())
    return [path for path in every if directory / "cache" not in path.parents]
