"""Training images that would be tested on: found by their names and by what they show.

    name      a picture in another folder is a copy of the one that has the same class and the
              same path below it, whatever its ending: photos/cat/3.jpg, stylized/cat/3.png
    content   two images are the same if their pixels are, once decoded

Names count where nobody has said which pictures are for testing: an undivided folder's split is
drawn, and as `test` all its pictures are test images. Where both sides are divided by their owner
(into train/ and test/, or by a list), or a folder has test/ alone, names may mean nothing.

Images that train stay; of those that test, the ones that also train are dropped, and a message says
so. Arrays and published sets keep their test images, so that results compare; a message says how
many are in doubt.
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

# A folder of copies is one of which at least so many have an original.
_LEAST_PAIRED = 0.5

Name = tuple[str, str]  # class, and path below it without an ending

logger = logging.getLogger(__name__)


def drop_training_images(
    decoded: Decoded, name: str, tested: FolderPlan | None, training: Sequence[FolderPlan | None]
) -> Decoded:
    """The set without those test images that also train.

    Args:
        decoded: all training images, and the test images of `tested`.
        name: the set's, for messages.
        tested: the plan whose test pictures are tested; None: they are no files.
        training: the plans whose training pictures train; None as well.

    Raises UserError where it cannot be told which test pictures are copies of training pictures,
    and where no test image is left.
    """
    same = _tested_again(decoded.train.images, decoded.test.images)
    if tested is None:
        if same.any():
            logger.warning(
                "%s: %d of %d test images are training images too, pixel by pixel; they stay, as "
                "this set was divided by others",
                name, int(same.sum()), len(same),
            )  # fmt: skip
        return decoded
    copies = copies_by_name(name, tested, training)
    kept = np.flatnonzero(~(same | copies))
    report(name, tested, {"name": copies, "content": same})
    if not len(kept) and len(same):
        raise UserError(
            f"{name}: every test picture is a training picture too, or a copy of one: give other "
            "pictures to test on"
        )
    if len(kept) == len(same):
        return decoded
    return Decoded(decoded.train, decoded.test.take(kept), decoded.class_names)


def copies_by_name(
    name: str, tested: FolderPlan, training: Sequence[FolderPlan | None]
) -> np.ndarray:
    """Which of the test pictures, bool [N], have the name of a training picture elsewhere.

    Raises UserError where hardly any picture of an undivided folder that is tested as a whole has
    a counterpart: then names do not tell whether they are copies.
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
        stems = tested.is_list or plan.is_list  # whose paths have no folder in common
        names = _names(tested, tested.test, stems)
        trains, tests = (set(_names(plan, rows, stems)) for rows in (plan.train, plan.test))
        copies |= [one in trains for one in names]
        paired |= [one in trains or one in tests for one in names]
    whole = not tested.train and not tested.divided
    if others and whole and paired.mean() < _LEAST_PAIRED:
        raise UserError(
            f"{name}: it cannot be told which pictures of {printable(tested.path)} are copies of "
            f"training pictures, since {int(paired.sum())} of {len(paired)} have the name of one "
            "(the same class folder, and the same path in it but for the ending). If they are "
            "copies, give them their originals' names; if they are other pictures, move the class "
            f"folders to {printable(tested.path / 'test')}"
        )
    return copies


def report(name: str, tested: FolderPlan, found: dict[str, np.ndarray]) -> None:
    """Say how many test pictures are left out, and name one of each kind."""
    for by, where in found.items():
        if where.any():
            hint = "; if the names mean nothing, divide both into train/ and test/"
            logger.warning(
                "%s: %d of %d test pictures are left out, as training pictures have the same %s: "
                "%s%s%s",
                name, int(where.sum()), len(where), by,
                printable(tested.test[int(np.argmax(where))][0]),
                " and others" if where.sum() > 1 else "", hint if by == "name" else "",
            )  # fmt: skip


_GROUPS: WeakKeyDictionary[ImageSet, np.ndarray] = WeakKeyDictionary()


def same_images(images: ImageSet) -> np.ndarray:
    """A number for each image, int64 [N], equal for those that show the same."""
    if images not in _GROUPS:
        _GROUPS[images] = _numbers([images.images])
    return _GROUPS[images]


def _tested_again(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Which test images, bool [N], a training image equals."""
    if train.shape[1:] != test.shape[1:] or not len(train) or not len(test):
        return np.zeros(len(test), bool)
    numbers = _numbers([train, test])
    return np.isin(numbers[len(train) :], numbers[: len(train)])


def _numbers(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """A number for each image of all arrays, int64 [N], equal for equal ones.

    A few pixels of each tell most apart; the others are compared as a whole.
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
    """About 8 x 8 pixels of each image, as one opaque value each, [N]."""
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
