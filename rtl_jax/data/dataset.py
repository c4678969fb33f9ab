"""Decoded images and labels, in the form used by all other parts of rtl_jax.

`images` are uint8 [N, H, W, C] with C 1 or 3 (greyscale keeps one channel, which the device
broadcasts), `labels` int32 [N] in 0 .. num_classes - 1. Pixels become floats in [0, 1] on the
device, never here.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from rtl_jax.errors import UserError

# "original": the order of the source's own files, the only one that reproduces the authors'
# subsets of the six targets. "tfds": the hashed order of a dataset prepared by TFDS.
Order = Literal["original", "tfds"]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, uint8 [N, H, W, C] with C 1 or 3, and their labels, int32 [N]; read-only.

    Raises:
      UserError: for any other dtype, shape or length.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[-1] not in (1, 3):
            raise UserError(
                "images must be uint8 [N, height, width, 1 or 3 channels], "
                f"received {self.images.dtype} {list(shape)}"
            )
        if self.labels.shape != shape[:1]:
            raise UserError(
                f"labels: expected [{shape[0]}], one for each image; "
                f"received {list(self.labels.shape)}"
            )
        if self.labels.dtype != np.int32:
            raise UserError(f"labels must be int32, received {self.labels.dtype}")
        for field in ("images", "labels"):
            # A view, so that the caller's array remains writable.
            view = np.asarray(getattr(self, field)).view()
            view.flags.writeable = False
            object.__setattr__(self, field, view)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray | Sequence[int]) -> "ImageSet":
        """Copy the images at `indices`, int [M], in that order."""
        rows = np.asarray(indices, dtype=np.int64)
        return ImageSet(self.images[rows], self.labels[rows])


def three_channels(images: ImageSet) -> ImageSet:
    """Return the images with three channels, repeating a single one."""
    shape = (*images.images.shape[:3], 3)
    return ImageSet(np.ascontiguousarray(np.broadcast_to(images.images, shape)), images.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A classification dataset, ready to use.

    Attributes:
      name: the spec from which it was loaded.
      train: the training images.
      test: the test images.
      class_names: the names of the classes, by label.
      order: the order of the images (see `Order`).

    Raises:
      UserError: if the images differ in shape, a label is outside 0 .. num_classes - 1, there are
        fewer than two classes, or a class has no training image.
    """

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    order: Order

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise UserError(
                f"{self.name}: a classification needs at least two classes, "
                f"found {list(self.class_names)}"
            )
        if twice := sorted(name for name, count in Counter(self.class_names).items() if count > 1):
            raise UserError(
                f"{self.name}: class names must be distinct, received {', '.join(twice)} twice"
            )
        for half, name in ((self.train, "training"), (self.test, "test")):
            if not len(half):
                raise UserError(f"{self.name}: there are no {name} images")
            low, high = int(half.labels.min()), int(half.labels.max())
            if low < 0 or high >= self.num_classes:
                raise UserError(
                    f"{self.name}: {name} labels must lie in 0..{self.num_classes - 1}, "
                    f"found {low}..{high}"
                )
        shapes = self.train.images.shape[1:], self.test.images.shape[1:]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{self.name}: training images are {list(shapes[0])} and test images "
                f"{list(shapes[1])} (height, width, channels); they must agree"
            )
        require_every_class(self.name, self.class_names, self.train.labels)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def train_counts(self) -> np.ndarray:
        """Return the number of training images per class, int64 [num_classes]."""
        return np.bincount(self.train.labels, minlength=self.num_classes)


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """The images of a source before classes are selected and checked."""

    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]


def require_every_class(name: str, class_names: Sequence[str], labels: np.ndarray) -> None:
    """Raise UserError if a class of the data set `name` has no training image."""
    counts = np.bincount(labels, minlength=len(class_names))
    if missing := np.flatnonzero(counts == 0).tolist():
        shown = ", ".join(f"{label} ({class_names[label]})" for label in missing[:10])
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise UserError(
            f"{name}: no training image has the label {shown}{more}; add images, "
            "or name the classes to keep in the setting `classes`"
        )


def check_classes(classes: Sequence[int], known: int, name: str) -> None:
    """Raise UserError unless `classes` are distinct labels in 0 .. known - 1."""
    wrong = [c for c in classes if not 0 <= c < known]
    if wrong or len(set(classes)) != len(classes):
        raise UserError(
            f"{name}: `classes` must name different labels of 0..{known - 1}, "
            f"received {list(classes)}"
        )


def keep_classes(decoded: Decoded, classes: Sequence[int], name: str) -> Decoded:
    """Keep only the images of `classes`, renumbered 0, 1, ... in the order of `classes`.

    Raises UserError for a class that does not exist or is named twice.
    """
    known = len(decoded.class_names)
    check_classes(classes, known, name)
    renumbered = np.full(known, -1, np.int32)
    renumbered[list(classes)] = np.arange(len(classes), dtype=np.int32)

    def keep(half: ImageSet) -> ImageSet:
        inside = (half.labels >= 0) & (half.labels < known)
        if not inside.all():
            raise UserError(
                f"{name}: the label {int(half.labels[~inside][0])} lies outside 0..{known - 1}"
            )
        labels = renumbered[half.labels]
        rows = np.flatnonzero(labels >= 0)
        return ImageSet(half.images[rows], labels[rows])

    names = tuple(decoded.class_names[c] for c in classes)
    return Decoded(keep(decoded.train), keep(decoded.test), names)
