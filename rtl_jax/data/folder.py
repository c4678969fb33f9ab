"""`folder:PATH`: a folder per class, or such folders under train/ and test/.

    photos/cats/a.jpg            photos/train/cats/a.jpg
    photos/dogs/b.png            photos/test/cats/c.jpg

Classes are the folders' names in alphabetical order; pictures may lie deeper inside.
"""

import dataclasses
import logging
import os
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rtl_jax.data import pictures
from rtl_jax.data.dataset import Decoded, ImageSet
from rtl_jax.errors import UserError
from rtl_jax.runtime.paths import printable

# Names of the folders of a split, in any case; the first that exists is used.
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "tests", "val", "valid", "validation")
# Folders of which all have such names are hardly classes.
_SPLIT_NAMES = {*TRAIN_NAMES, *TEST_NAMES, "dev", "eval"}
TEST_SHARE = 0.2

PICTURES = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm",
            ".pgm", ".pbm"}  # fmt: skip
# Photographs that PIL cannot read; skipping them silently would lose pictures.
UNREADABLE = {".heic", ".heif", ".avif", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2",
              ".raf", ".svg"}  # fmt: skip

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class FolderPlan:
    """The files of a dataset: `train` and `test` are (path, label) in order.

    Class names are printable, whatever the bytes of the folders' names. `split_seed` is the seed of
    the split, or None if none was drawn. `divided` says whether the owner specified the test
    pictures, `is_list` whether by a list.
    """

    path: Path
    class_names: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    split_seed: int | None
    divided: bool = False
    is_list: bool = False

    @property
    def files(self) -> list[Path]:
        """Return all pictures, training pictures first."""
        return [path for path, _ in self.train + self.test]

    def below_class(self, file: Path) -> str:
        """Return the path of a folder's picture relative to its class's folder."""
        depth = 2 if self.divided else 1  # train/cats/x.jpg, or cats/x.jpg
        return os.path.join(*file.relative_to(self.path).parts[depth:])


def plan_folder(path: Path, seed: int | None) -> FolderPlan:
    """List a folder's pictures and split them, without decoding any.

    Without train/ and test/, a fifth of each class (at least one picture, if it has two) becomes
    the test set, drawn from `seed` and the class's name, so that adding a class does not change the
    split of others. Without a seed, all pictures are test images, and a folder may contain only
    test/.

    Raises UserError for a missing folder, a class without pictures, a test class without a training
    class, or pictures in a format that cannot be read.
    """
    train_dir, test_dir = halves(path)
    if test_dir is not None:
        return _plan_halves(path, train_dir, test_dir)
    if seed is None:
        return _plan_tests(path)
    classes = _pictures_by_class(path)
    train: list[tuple[Path, int]] = []
    test: list[tuple[Path, int]] = []
    for label, (name, files) in enumerate(classes.items()):
        shuffled = list(files)
        random.Random(f"{seed}/{name}").shuffle(shuffled)
        count = min(max(1, round(TEST_SHARE * len(files))), len(files) - 1)
        train += [(file, label) for file in sorted(shuffled[count:])]
        test += [(file, label) for file in sorted(shuffled[:count])]
    return FolderPlan(path, tuple(classes), tuple(train), tuple(test), seed)


def _plan_tests(path: Path) -> FolderPlan:
    """Plan all pictures of an undivided folder, or of its only subfolder test/, as test images."""
    inside = folders(path)
    alone = len(inside) == 1 and inside[0].name.lower() in TEST_NAMES
    classes = _pictures_by_class(inside[0] if alone else path)
    every = tuple((f, label) for label, files in enumerate(classes.values()) for f in files)
    return FolderPlan(path, tuple(classes), (), every, None, divided=alone)


def halves(path: Path) -> tuple[Path, Path | None]:
    """Return the folders that contain the training and the test classes; None: not divided.

    Raises UserError for a missing folder, for train/ without test/, and for test/ and others of a
    split without train/.
    """
    if not path.is_dir():
        raise UserError(
            f"there is no folder {path}: folder: takes a folder with one subfolder per class"
        )
    inside = {entry.name.lower(): entry for entry in folders(path)}
    test_names = [name for name in TEST_NAMES if name in inside]
    # Alone, training/ may be a class, such as of pictures of people.
    usual = TRAIN_NAMES if test_names else TRAIN_NAMES[:1]
    train_names = [name for name in usual if name in inside]
    if not train_names:
        if len(inside) > 1 and inside.keys() <= _SPLIT_NAMES:
            names = ", ".join(entry.name for entry in inside.values())
            raise UserError(
                f"{path} has the folders {names}, which are named as parts of a split, not as "
                "classes: name that of training images train and that of test images test, or "
                "rename the classes"
            )
        return path, None
    if not test_names:
        raise UserError(
            f"{path} has train/ and no test/: add test/ with the same class folders, or move "
            "the class folders out of train/ to have a fifth of the images drawn for testing"
        )
    used = inside[train_names[0]], inside[test_names[0]]
    if unused := [entry.name for entry in inside.values() if entry not in used]:
        logger.warning(
            "%s: training images are those in %s/, test images those in %s/; not used: %s",
            path, *(place.name for place in used), printable(", ".join(unused)),
        )  # fmt: skip
    return used


def read_folder(plan: FolderPlan, image_size: int) -> Decoded:
    """Decode a plan's pictures, uint8 [N, size, size, C]; C is 1 if every picture is grey.

    `size` is `image_size`, unless all pictures are squares of the same smaller size, which is then
    kept. Raises UserError that lists broken files, or if memory is too small.
    """
    files = plan.files
    common = pictures.common_size(files)
    size = edge(common, image_size)
    images, broken = pictures.decode_all(
        files, len(files), (size, size), native=common == (size, size), name=str(plan.path)
    )
    if broken:
        listed = pictures.list_broken([f"{files[row]}: {reason}" for row, reason in broken])
        raise UserError(
            f"{len(broken)} of {len(files)} images of {plan.path} cannot be decoded: remove or "
            f"replace them\n{listed}"
        )
    labels = np.array([label for _, label in plan.train + plan.test], np.int32)
    cut = len(plan.train)
    train, test = ImageSet(images[:cut], labels[:cut]), ImageSet(images[cut:], labels[cut:])
    return Decoded(train, test, plan.class_names)


def edge(common: tuple[int, int] | None, image_size: int) -> int:
    """Return the edge of decoded pictures; `common` is the size that all files have, or None."""
    square = common is not None and common[0] == common[1] <= image_size
    return common[0] if common is not None and square else image_size


def _plan_halves(path: Path, train_dir: Path, test_dir: Path) -> FolderPlan:
    train, test = _pictures_by_class(train_dir), _pictures_by_class(test_dir)
    if unknown := [name for name in test if name not in train]:
        raise UserError(
            f"{test_dir} has class folders that {train_dir} lacks: {', '.join(unknown)}; "
            "each class needs training images"
        )
    names = tuple(train)

    def rows(classes: dict[str, list[Path]]) -> tuple[tuple[Path, int], ...]:
        return tuple((f, names.index(name)) for name, files in classes.items() for f in files)

    return FolderPlan(path, names, rows(train), rows(test), None, divided=True)


def _pictures_by_class(path: Path) -> dict[str, list[Path]]:
    if loose := [entry for entry in path.iterdir() if _is_loose(entry)]:
        logger.warning(
            "%s: images in no class's folder, skipped (%d): %s", path, len(loose), min(loose)
        )
    classes = {printable(folder.name): _pictures(folder) for folder in folders(path)}
    if len(classes) < 2:
        raise UserError(
            f"{path} must have one folder per class, at least two, "
            f"and has {', '.join(classes) or 'none'}"
        )
    if empty := [name for name, files in classes.items() if not files]:
        raise UserError(
            f"{path} has class folders without an image: {', '.join(empty)}; add images "
            f"({', '.join(sorted(PICTURES))}) or remove the folders"
        )
    return classes


def _is_loose(entry: Path) -> bool:
    known = entry.suffix.lower() in PICTURES | UNREADABLE
    return known and not entry.name.startswith(".") and entry.is_file()


def folders(path: Path) -> list[Path]:
    """List the subfolders by name, without hidden ones. Raises UserError if unreadable."""
    try:
        entries = sorted(path.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): check its permissions"
        ) from error
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


class Files(NamedTuple):
    """The files in and below a folder: pictures, photographs that PIL cannot read, and others."""

    pictures: list[Path]
    unreadable: list[Path]
    others: list[Path]


def files_in(folder: Path) -> Files:
    """List the files of a folder, sorted and grouped by extension, without hidden ones."""
    found = Files([], [], [])
    for place, inside, names in os.walk(folder, followlinks=True):
        inside[:] = [name for name in inside if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini"):
                continue
            suffix = os.path.splitext(name)[1].lower()
            kind = 0 if suffix in PICTURES else 1 if suffix in UNREADABLE else 2
            found[kind].append(Path(place, name))
    return Files(*map(sorted, found))


def _pictures(folder: Path) -> list[Path]:
    found = files_in(folder)
    if found.unreadable:
        first = found.unreadable[0]
        raise UserError(
            f"{first}: {first.suffix.lower()} images cannot be read; convert them "
            "to JPEG or PNG (or move them away)"
        )
    if others := found.others:
        logger.warning("%s: %d files are not images, skipped: %s", folder, len(others), others[0])
    return found.pictures
