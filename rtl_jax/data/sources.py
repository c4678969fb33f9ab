"""From a spec such as `tfds:mnist` or `folder:~/photos` to a `Dataset`.

The story: find the source's files, look for their decoded form in the cache, else decode
and keep it, then choose the classes and check the result.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rtl_jax.data import cache, folder, npz, originals, tfds
from rtl_jax.data.dataset import Dataset, Decoded, ImageSet, Order, keep_classes
from rtl_jax.errors import UserError
from rtl_jax.paths import cache_path, data_path

KINDS = "digits, tfds:NAME, folder:PATH or npz:PATH"
DIGITS_TEST_IMAGES = 600


def load_dataset(
    spec: str,
    *,
    data_dir: str | Path | None,
    cache_dir: str | Path | None = None,
    image_size: int,
    seed: int = 0,
    classes: Sequence[int] | None = None,
) -> Dataset:
    """Load a classification set, decoded, as uint8 in memory.

    Args:
        spec: `digits`, `tfds:NAME`, `folder:PATH` or `npz:PATH`.
        data_dir: where `tfds:` sets lie and are downloaded to; None is the environment's
            RTL_JAX_DATA_DIR, else ~/.cache/rtl_jax/data.
        cache_dir: where decoded sets are kept; None is the environment's
            RTL_JAX_CACHE_DIR, else ~/.cache/rtl_jax.
        image_size: height and width in pixels given to images of varying size (shorter
            side resized, centre cropped). Sets of one fixed size keep it.
        seed: of the train/test split of a `folder:` that has none.
        classes: keep only these labels and renumber them 0, 1, ...; None keeps all.

    Raises:
        UserError: the source is missing, damaged, or not a classification set; the
            message says what to do. Without network it comes within 10 seconds.
    """
    if image_size < 1:
        raise UserError(f"image_size must be positive, received {image_size}")
    decoded, order = _decode(spec, data_path(data_dir), cache_path(cache_dir), image_size, seed)
    if classes is not None:
        decoded = keep_classes(decoded, classes, spec)
    return Dataset(spec, decoded.train, decoded.test, decoded.class_names, order)


def _decode(
    spec: str, data_dir: Path, cache_dir: Path, image_size: int, seed: int
) -> tuple[Decoded, Order]:
    kind, _, rest = spec.partition(":")
    if spec == "digits":
        return _digits(), "original"
    if kind not in ("tfds", "folder", "npz") or not rest:
        raise UserError(f"unknown dataset {spec!r}: expected {KINDS}")
    if kind == "npz":
        path = Path(rest).expanduser().absolute()
        key = cache.key(spec, files=[path])
        return cache.fetch(cache_dir, key, lambda: npz.read_npz(path)), "original"
    if kind == "folder":
        plan = folder.plan_folder(Path(rest).expanduser().absolute(), seed)
        key = cache.key(spec, files=plan.files, settings=(image_size, plan.split_seed))
        return cache.fetch(cache_dir, key, lambda: folder.read_folder(plan, image_size)), "original"
    return _decode_tfds(spec, rest, data_dir, cache_dir, image_size)


def _decode_tfds(
    spec: str, name: str, data_dir: Path, cache_dir: Path, image_size: int
) -> tuple[Decoded, Order]:
    # Original files first: only their order reproduces the authors' subsets.
    target = originals.TARGETS.get(name)
    files = originals.find(target, data_dir) if target else None
    prepared = None if files else tfds.find_prepared(name, data_dir)
    if target and not files and not prepared:
        files = originals.fetch(target, data_dir)
    if target and files:
        paths = list(files.values())
        key = cache.key(spec, files=paths, settings=[f.sha256 for f in target.files])
        return cache.fetch(cache_dir, key, lambda: originals.read(target, files)), "original"
    if not prepared:
        prepared = tfds.prepare(name, data_dir)
    key = cache.key(spec, files=tfds.files_of(prepared), settings=(image_size,))
    return cache.fetch(cache_dir, key, lambda: tfds.read_prepared(prepared, image_size)), "tfds"


def _digits() -> Decoded:
    """scikit-learn's 1,797 handwritten digits, 8x8: the first 1,197 train, the last 600 test.

    The file seems to go writer by writer: the nearest training image names 96.5 % of this
    test set, and 98.8 % of a random one. So its own order gives the more honest split.
    Pixels of 0..16 are spread over 0..255.
    """
    from sklearn.datasets import load_digits  # Here, because importing it takes a second.

    bunch = load_digits()
    images = ((bunch.images.astype(np.int32) * 255 + 8) // 16).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int32)
    cut = len(labels) - DIGITS_TEST_IMAGES
    names = tuple(str(name) for name in bunch.target_names)
    return Decoded(
        ImageSet(images[:cut], labels[:cut]), ImageSet(images[cut:], labels[cut:]), names
    )
