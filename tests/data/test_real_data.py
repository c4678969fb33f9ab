"""Real datasets, if RTL_JAX_DATA_DIR has them: counts and pixels compared with published facts."""

import os
from pathlib import Path

import numpy as np
import pytest

from rtl_jax.data import draw_subset, load_dataset, seed_for
from rtl_jax.data.dataset import Dataset

pytestmark = pytest.mark.slow

# Images per class, published with the sets.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Load a dataset once per module, with a separate cache; skip the test if it is missing."""
    root = os.environ.get("RTL_JAX_DATA_DIR")
    cache = tmp_path_factory.mktemp("cache")

    def loader(name: str) -> Dataset:
        if not root or not (Path(root) / name).is_dir():
            pytest.skip(f"RTL_JAX_DATA_DIR has no {name}")
        return load_dataset(f"tfds:{name}", data_dir=root, cache_dir=cache, image_size=32)

    return loader


def test_mnist(load):
    dataset = load("mnist")
    assert dataset.train.images.shape == (60000, 28, 28, 1)
    assert dataset.test.images.shape == (10000, 28, 28, 1)
    assert dataset.train_counts.tolist() == MNIST_TRAIN
    assert np.bincount(dataset.test.labels).tolist() == MNIST_TEST
    # The well-known mean and standard deviation of the training pixels.
    assert dataset.train.images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert dataset.train.images.std() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_mnist_pixels_do_not_depend_on_the_order(load):
    """Sums over the dataset are equal for the original files and for TFDS's order."""
    dataset = load("mnist")
    # Computed from images whose bytes equal the published md5; legitimate to update: never.
    assert int(dataset.train.images.sum(dtype=np.int64)) == 1567298545
    assert int(dataset.test.images.sum(dtype=np.int64)) == 264923200


def test_fashion_mnist(load):
    dataset = load("fashion_mnist")
    assert dataset.train_counts.tolist() == [6000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.class_names[9] == "Ankle boot"
    assert dataset.train.images.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert dataset.train.images.std() / 255 == pytest.approx(0.3530, abs=5e-5)


def test_kmnist_partial(load):
    dataset = load("kmnist_partial")
    assert (len(dataset.train), len(dataset.test)) == (7011, 10000)
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.class_names == ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


def test_cifar10_jpeg_equals_pil(load):
    import io

    from PIL import Image

    tfds = pytest.importorskip("tensorflow_datasets")
    dataset = load("cifar10_jpeg")
    assert dataset.train_counts.tolist() == [5000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    builder = tfds.builder_from_directory(
        Path(os.environ["RTL_JAX_DATA_DIR"]) / "cifar10_jpeg" / "1.0.0"
    )
    source = builder.as_data_source("test", decoders={"image": tfds.decode.SkipDecoding()})
    for row in (0, 1, 4999, 9999):
        expected = Image.open(io.BytesIO(source[row]["image"])).convert("RGB")
        assert (dataset.test.images[row] == np.asarray(expected)).all()
        assert dataset.test.labels[row] == source[row]["label"]


def test_a_subset_of_real_labels_is_stable(load):
    dataset = load("mnist")
    drawn = draw_subset(dataset.train.labels, 100, seed_for(0), 10)
    assert len(set(drawn.tolist())) == 100
    assert set(dataset.train.labels[drawn]) == set(range(10))
    again = draw_subset(dataset.train.labels, 100, seed_for(0), 10)
    assert (drawn == again).all()
