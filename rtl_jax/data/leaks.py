"""Leakage between training and test images, detected by name and by content.

    name      a picture in another folder is a copy of the one with the same class and the same
              path below it, with any extension: photos/cat/3.jpg, stylized/cat/3.png
    content   two images are the same if their decoded pixels are equal

Names are compared if the owner has not specified the test pictures: the split of an undivided
folder is drawn, and as `test` all its pictures are test images. If both sides are divided by their
owner (into train/ and test/, or by a list), or a folder has only test/, names may mean nothing.

Test images that are also training images are dropped, with a message. Arrays and published datasets
keep them, so that results are comparable, and a message states their number.
"""

import hashlib
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from rtl_jax.data.dataset import Decoded, ImageSet
from rtl_jax.data.folder import FolderPlan
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import printable

# A folder contains copies if at least this fraction of its pictures has an original.
_LEAST_PAIRED = 0.5

Name = tuple[str, str]  # class, and path below it without its extension

logger = logging.getLogger(__name__)


def drop_training_images(
    decoded: Decoded, name: str, tested: FolderPlan | None, training: Sequence[FolderPlan | None]
) -> Decoded:
    """Drop test images that are also training images.

    Args:
        decoded: all training images, and the test images of `tested`.
        name: the name of the dataset, for messages.
        tested: the plan with the test pictures; None: they are not files.
        training: the plans with the training pictures; None likewise.

    Raises UserError if it is undecidable which test pictures are copies of training pictures, or if
    no test image is left.
    """
    same = _tested_again(decoded.train.images, decoded.test.images)
    if tested is None:
        if same.any():
            logger.warning(
                "%s: %d of %d test images have the same pixels as a training image; they are kept, "
                "since the set came with this split",
                name, int(same.sum()), len(same),
            )  # fmt: skip
        return decoded
    copies = copies_by_name(name, tested, training)
    kept = np.flatnonzero(~(same | copies))
    report(name, tested, {"name": copies, "content": same})
    if not len(kept) and len(same):
        raise UserError(
            f"{name}: every test image is also a training image, or a copy of one: choose other "
            "test images"
        )
    if len(kept) == len(same):
        return decoded
    return Decoded(decoded.train, decoded.test.take(kept), decoded.class_names)


def copies_by_name(
    name: str, tested: FolderPlan, training: Sequence[FolderPlan | None]
) -> np.ndarray:
    """Return which test pictures, bool [N], have the name of a training picture elsewhere.

    Raises UserError if few pictures of an undivided folder that is tested as a whole have a
    counterpart, so that names do not tell whether they are copies.
    """
    others = [
        plan
        for plan in training
        if plan is not None
        and not (tested.divided and (plan.divided or not tested.train))
        and (tested.path, tested.split_seed) != (plan.path, plan.split_seed)
    ]
    copies, paired = np.zeros(len(tested.test), bool), np.zeros(len(tested.test), bool)
    for plan in others:
        stems = tested.is_list or plan.is_list  # whose paths share no folder
        names = _names(tested, tested.test, stems)
        trains, tests = (set(_names(plan, rows, stems)) for rows in (plan.train, plan.test))
        copies |= [one in trains for one in names]
        paired |= [one in trains or one in tests for one in names]
    whole = not tested.train and not tested.divided
    if others and whole and paired.mean() < _LEAST_PAIRED:
        raise UserError(
            f"{name}: cannot tell which images of {printable(tested.path)} are copies of "
            f"training images, since only {int(paired.sum())} of {len(paired)} have the name of "
            "one (the same class folder, and the same path in it except for the extension). If "
            "they are copies, give them the names of their originals; if they are different "
            f"images, move the class folders to {printable(tested.path / 'test')}"
        )
    return copies


def report(name: str, tested: FolderPlan, found: dict[str, np.ndarray]) -> None:
    """Print the number of dropped test pictures, with an example of each kind."""
    for by, where in found.items():
        if where.any():
            hint = "; if the names are arbitrary, split both into train/ and test/"
            logger.warning(
                "%s: %d of %d test images are left out, since training images have the same %s: "
                "%s%s%s",
                name, int(where.sum()), len(where), by,
                printable(tested.test[int(np.argmax(where))][0]),
                " and others" if where.sum() > 1 else "", hint if by == "name" else "",
            )  # fmt: skip


_GROUPS: WeakKeyDictionary[ImageSet, np.ndarray] = WeakKeyDictionary()


def same_images(images: ImageSet) -> np.ndarray:
    """Return a number for each image, int64 [N], equal for images with equal pixels."""
    if images not in _GROUPS:
        _GROUPS[images] = _numbers([images.images])
    return _GROUPS[images]


def without_copies(images: ImageSet) -> ImageSet:
    """Return the first of all equal images, in their order."""
    first = np.unique(same_images(images), return_index=True)[1]
    return images if len(first) == len(images) else images.take(np.sort(first))


def _tested_again(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return which test images, bool [N], equal a training image."""
    if train.shape[1:] != test.shape[1:] or not len(train) or not len(test):
        return np.zeros(len(test), bool)
    numbers = _numbers([train, test])
    return np.isin(numbers[len(train) :], numbers[: len(train)])


def _numbers(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return a number for each image of all arrays, int64 [N], equal for equal images.

    A few pixels distinguish most images; the others are compared as a whole.
    """
    sampled = np.concatenate([_few_pixels(images) for images in arrays])
    _, numbers, counts = np.unique(sampled, return_inverse=True, return_counts=True)
    every = itertools.chain.from_iterable(arrays)
    known: dict[bytes, int] = {}
    found = numbers.astype(np.int64)
    for row, image in enumerate(every):
        if counts[numbers[row]] > 1:
            key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            found[row] = known.setdefault(key, len(counts) + len(known))
    return found


def _few_pixels(images: np.ndarray) -> np.ndarray:
    """Return about 8 x 8 pixels of each image as one opaque value, [N]."""
    _, height, width, _ = images.shape
    grid = images[:, :: -(-height // 8), :: -(-width // 8)]
    flat = np.ascontiguousarray(grid).reshape(len(images), -1)
    return flat.view(np.dtype((np.void, flat.shape[1])))[:, 0]


def _names(plan: FolderPlan, rows: Sequence[tuple[Path, int]], stems: bool) -> list[Name]:
    named = []
    for file, label in rows:
        below = file.name if stems else plan.below_class(file)
        named.append((plan.class_names[label], os.path.splitext(below)[0]))
    return named
