"""Dispatch by spec, the embedded digits, and default directories."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rtl_jax.data import load_dataset
from rtl_jax.data.kinds import digits
from rtl_jax.data.sources import cache_path, data_path
from rtl_jax.errors import UserError


def load(spec: str, **options):
    return load_dataset(spec, data_dir=None, **({"image_size": 32} | options))


def test_digits_are_scikit_learns(tmp_path):
    dataset = load("digits", cache_dir=tmp_path / "unused")
    reference = load_digits()
    values = np.concatenate([dataset.train.images, dataset.test.images])[..., 0].astype(int)
    assert (values == np.rint(reference.images * 255 / 16)).all()
    assert values.min() == 0 and values.max() == 255
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    assert (labels == reference.target).all()
    assert (len(dataset.train), len(dataset.test)) == (1197, 600)
    assert dataset.class_names == tuple("0123456789") and dataset.order == "original"
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("found", [None, SimpleNamespace(submodule_search_locations=["nowhere"])])
def test_digits_that_scikit_learn_has_put_elsewhere_are_read_by_it(monkeypatch, found):
    values = digits._table()
    monkeypatch.setattr(digits, "find_spec", lambda name: found)
    assert (digits._table() == values).all() and values.shape == (1797, 65)


def test_digits_as_a_source_and_a_target():
    source, target = load("digits", classes=range(5)), load("digits", classes=(5, 6, 7, 8, 9))
    reference = load_digits().target
    assert len(source.train) + len(target.train) == 1197
    assert target.class_names == ("5", "6", "7", "8", "9")
    assert target.train_counts.tolist() == np.bincount(reference[:1197])[5:].tolist()


@pytest.mark.parametrize(
    "spec", ["", "digit", "tfds", "tfds:", "folder:", "list:", "npz:", "http://x", "digits:1"]
)
def test_unknown_specs_name_the_known_ones(spec):
    with pytest.raises(UserError, match="digits, folder:PATH, list:PATH, npz:PATH or tfds:NAME"):
        load(spec)


def test_image_size_must_be_positive():
    with pytest.raises(UserError, match="image_size"):
        load("digits", image_size=0)


def test_directories_default_to_the_environment_then_to_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RTL_JAX_DATA_DIR", "~/d")
    monkeypatch.setenv("RTL_JAX_CACHE_DIR", "~/c")
    assert (data_path(None), cache_path(None)) == (tmp_path / "d", tmp_path / "c")
    assert data_path("/x") == Path("/x") and cache_path("/y") == Path("/y")
    monkeypatch.delenv("RTL_JAX_DATA_DIR")
    monkeypatch.delenv("RTL_JAX_CACHE_DIR")
    home = tmp_path / ".cache" / "rtl_jax"
    assert (data_path(None), cache_path(None)) == (home / "data", home)
