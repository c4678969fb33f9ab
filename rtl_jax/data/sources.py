"""Load a `Dataset` from a spec such as `tfds:mnist` or `folder:~/photos`.

Find the source's files, get their decoded form from the cache or decode and cache them, then select
the classes and check the result.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import rtl_jax.data.kinds  # noqa: F401 - registers them
from rtl_jax.data import cache, leaks, union
from rtl_jax.data.dataset import Dataset, Decoded, keep_classes
from rtl_jax.data.source import SPLIT_SEED, DataSource, open_source, open_sources
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import cache_path, data_path


def load_dataset(
    spec: str,
    *,
    data_dir: str | Path | None,
    cache_dir: str | Path | None = None,
    image_size: int,
    seed: int = 0,
    classes: Sequence[int] | None = None,
    test: str | None = None,
    test_on_train: bool = False,
) -> Dataset:
    """Load a classification dataset, decoded, as uint8 in memory.

    Args:
        spec: `digits`, `tfds:NAME`, `folder:PATH`, `list:PATH` or `npz:PATH`, or several joined by
            `+` (see `union`).
        data_dir: the directory of `tfds:` datasets and their downloads; None: RTL_JAX_DATA_DIR, or
            ~/.cache/rtl_jax/data.
        cache_dir: the directory of decoded datasets; None: RTL_JAX_CACHE_DIR, or ~/.cache/rtl_jax.
        image_size: height and width in pixels to which images of varying size are brought (shorter
            side resized, centre cropped). Datasets of one fixed size keep it.
        seed: the seed of the train/test split of a `folder:` without one.
        classes: keep only these labels and renumber them 0, 1, ...; None keeps all.
        test: another dataset, whose test images replace those of this one (see `union`). If they
            are copies, only copies of held-out images are used (see `leaks`).
        test_on_train: use the training images as test images, as for cross-validation.

    Returns:
        A `Dataset` with training and test images, labels and class names.

    Raises:
        UserError: if the source is missing, damaged, or not a classification dataset (the message
            says what to do), or if it is undecidable which test images are copies of training
            images (see `leaks`). Without network access, it is raised within 10 seconds.

    Example:
        >>> from rtl_jax.data import load_dataset
        >>> load_dataset("digits", data_dir=None, image_size=32).train.images.shape
        (1197, 8, 8, 1)
    """
    if image_size < 1:
        raise UserError(f"image_size must be positive, received {image_size}")
    places = data_path(data_dir), cache_path(cache_dir)
    sources = open_sources(spec, places[0])
    decoded = union.join([_decoded(each, places[1], image_size, seed) for each in sources], spec)
    name, tested = spec, sources[0].plan(seed)
    training = [each.plan(seed) for each in sources]
    if test is not None:
        name = f"{spec}, tested on {test}"
        sources.append(open_source(test, places[0]))
        other = _decoded(sources[-1], places[1], image_size, None)
        decoded, tested = union.with_test(decoded, other, name), sources[-1].plan(None)
    if test_on_train:
        decoded = dataclasses.replace(decoded, test=decoded.train)
    elif not all(each.published for each in sources):
        decoded = leaks.drop_training_images(decoded, name, tested, training)
    order = union.joint_order([each.order for each in sources])
    if classes is not None:
        decoded = keep_classes(decoded, classes, spec)
    return Dataset(spec, decoded.train, decoded.test, decoded.class_names, order)


def training_files(spec: str) -> list[tuple[Path, int]] | None:
    """Return the file and label of each training image, in order; None if not all are files."""
    plans = [source.plan(SPLIT_SEED) for source in open_sources(spec, data_path(None))]
    files: list[tuple[Path, int]] = []
    for plan in plans:
        if plan is None or plans[0] is None:
            return None
        numbers = union.renumbering(plan.class_names, plans[0].class_names, spec)
        files += [(file, int(numbers[label])) for file, label in plan.train]
    return files


def _decoded(source: DataSource, cache_dir: Path, image_size: int, seed: int | None) -> Decoded:
    key = source.cache_key(image_size, seed)
    if key is None:
        return source.read(image_size, seed)
    return cache.fetch(cache_dir, key, lambda: source.read(image_size, seed))
