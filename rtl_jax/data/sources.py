"""From a spec such as `tfds:mnist` or `folder:~/photos` to a `Dataset`.

The story: find the source's files, look for their decoded form in the cache, else decode
and keep it, then choose the classes and check the result.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rtl_jax.data import cache, folder, listing, npz, originals, tfds, union
from rtl_jax.data.dataset import Dataset, Decoded, ImageSet, Order, keep_classes
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import cache_path, data_path

KINDS = "digits, tfds:NAME, folder:PATH, list:PATH or npz:PATH"
DIGITS_TEST_IMAGES = 600
DIGITS_BYTES = 1797 * 8 * 8


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
    """Load a classification set, decoded, as uint8 in memory.

    Args:
        spec: `digits`, `tfds:NAME`, `folder:PATH`, `list:PATH` or `npz:PATH`, or several joined
            by `+` (see `union`).
        data_dir: where `tfds:` sets lie and are downloaded to; None is the environment's
            RTL_JAX_DATA_DIR, else ~/.cache/rtl_jax/data.
        cache_dir: where decoded sets are kept; None is the environment's
            RTL_JAX_CACHE_DIR, else ~/.cache/rtl_jax.
        image_size: height and width in pixels given to images of varying size (shorter
            side resized, centre cropped). Sets of one fixed size keep it.
        seed: of the train/test split of a `folder:` that has none.
        classes: keep only these labels and renumber them 0, 1, ...; None keeps all.
        test: another set, whose test images take the place of these (see `union`).
        test_on_train: the training images take the place of the test images, as for
            cross-validation.

    Raises:
        UserError: the source is missing, damaged, or not a classification set; the
            message says what to do. Without network it comes within 10 seconds.
    """
    if image_size < 1:
        raise UserError(f"image_size must be positive, received {image_size}")
    places = data_path(data_dir), cache_path(cache_dir)
    found = [_decode(part, *places, image_size, seed) for part in union.parts(spec)]
    decoded = union.join([each for each, _ in found], spec)
    if test is not None:
        found.append(_decode(test, *places, image_size, None))
        decoded = union.with_test(decoded, found[-1][0], f"{spec}, tested on {test}")
    if test_on_train:
        decoded = dataclasses.replace(decoded, test=decoded.train)
    order = union.joint_order([each for _, each in found])
    if classes is not None:
        decoded = keep_classes(decoded, classes, spec)
    return Dataset(spec, decoded.train, decoded.test, decoded.class_names, order)


def parse(spec: str) -> tuple[str, str]:
    """The kind of a single set, and the name or path that follows it; raises UserError."""
    kind, _, rest = spec.partition(":")
    if spec != "digits" and (kind not in ("tfds", "folder", "list", "npz") or not rest):
        raise UserError(f"unknown dataset {spec!r}: expected {KINDS}")
    return kind, rest


def local(path: str) -> Path:
    """The path in `folder:PATH`, `list:PATH` or `npz:PATH`, from the root."""
    return Path(path).expanduser().absolute()


def find_tfds(name: str, data_dir: Path) -> originals.Found | Path:
    """The original files of one of the paper's targets, or else a prepared directory.

    What is missing is downloaded, or prepared by TFDS; raises UserError where that fails.
    """
    # Original files first: only their order reproduces the authors' subsets.
    target = originals.TARGETS.get(name)
    files = originals.find(target, data_dir) if target else None
    prepared = None if files else tfds.find_prepared(name, data_dir)
    if target and not prepared:
        return originals.Found(target, files or originals.fetch(target, data_dir))
    return prepared or tfds.prepare(name, data_dir)


def _decode(
    spec: str, data_dir: Path, cache_dir: Path, image_size: int, seed: int | None
) -> tuple[Decoded, Order]:
    kind, rest = parse(spec)
    if kind == "digits":
        return _digits(), "original"
    if kind == "npz":
        path = local(rest)
        key = cache.key(spec, files=[path])
        return cache.fetch(cache_dir, key, lambda: npz.read_npz(path)), "original"
    if kind in ("folder", "list"):
        plan = _plan(kind, local(rest), seed)
        key = cache.key(spec, files=plan.files, settings=(image_size, plan.split_seed))
        return cache.fetch(cache_dir, key, lambda: folder.read_folder(plan, image_size)), "original"
    return _decode_tfds(spec, rest, data_dir, cache_dir, image_size)


def _plan(kind: str, path: Path, seed: int | None) -> folder.FolderPlan:
    return folder.plan_folder(path, seed) if kind == "folder" else listing.plan_list(path)


def training_files(spec: str) -> list[tuple[Path, int]] | None:
    """The file and label of each training image of a folder or a list; of other sets None."""
    kind, rest = parse(spec)
    return list(_plan(kind, local(rest), 0).train) if kind in ("folder", "list") else None


def _decode_tfds(
    spec: str, name: str, data_dir: Path, cache_dir: Path, image_size: int
) -> tuple[Decoded, Order]:
    found = find_tfds(name, data_dir)
    if isinstance(found, originals.Found):
        target, files = found
        key = cache.key(spec, files=files.values(), settings=[file.sha256 for file in target.files])
        return cache.fetch(cache_dir, key, lambda: originals.read(target, files)), "original"
    prepared = found
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
