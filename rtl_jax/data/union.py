"""Unions of datasets, such as `tfds:imagenet2012+folder:stylized`.

The datasets must have the same classes, which are matched by name and numbered as in the first one.
Training images are those of all datasets, concatenated; test images are those of the first. So a
network trained on ImageNet and Stylized-ImageNet is evaluated on ImageNet, as by the authors of the
latter, and is comparable to one trained on ImageNet. `with_test` serves the other case, training on
one dataset and testing on another.
"""

from collections.abc import Sequence

import numpy as np

from rtl_jax.data.dataset import Decoded, ImageSet, Order, three_channels
from rtl_jax.errors import UserError


def renumbering(names: Sequence[str], first: Sequence[str], spec: str) -> np.ndarray:
    """Return, for each class of a dataset, its number in the first dataset, int32 [classes].

    Raises UserError unless both have the same names, each once.
    """
    if len(set(first)) != len(first) or sorted(names) != sorted(first):
        only = sorted(set(first) - set(names)), sorted(set(names) - set(first))
        raise UserError(
            f"{spec}: these sets must have the same classes, each name once; only in the first "
            f"are {_listed(only[0])}, only in another {_listed(only[1])}"
        )
    number = {name: label for label, name in enumerate(first)}
    return np.array([number[name] for name in names], np.int32)


def join(sets: Sequence[Decoded], spec: str) -> Decoded:
    """Join the training images of all datasets with the test images of the first.

    Raises UserError for other classes, or images of another size.
    """
    first = sets[0]
    if len(sets) == 1:
        return first
    _require_one_size([half for each in sets for half in (each.train, each.test)], spec)
    images, labels = [], []
    for each in sets:
        images.append(three_channels(each.train).images)
        labels.append(renumbering(each.class_names, first.class_names, spec)[each.train.labels])
    train = ImageSet(np.concatenate(images), np.concatenate(labels))
    return Decoded(train, three_channels(first.test), first.class_names)


def with_test(first: Decoded, other: Decoded, spec: str) -> Decoded:
    """Combine the training images of `first` with relabelled test images of `other`.

    Raises UserError for other classes, or images of another size.
    """
    _require_one_size((first.train, other.test), spec)
    labels = renumbering(other.class_names, first.class_names, spec)[other.test.labels]
    test = three_channels(ImageSet(other.test.images, labels))
    return Decoded(three_channels(first.train), test, first.class_names)


def _require_one_size(halves: Sequence[ImageSet], spec: str) -> None:
    sizes = dict.fromkeys(half.images.shape[1:3] for half in halves)
    if len(sizes) > 1:
        raise UserError(
            f"{spec}: these sets must have images of one size, and theirs are "
            f"{', '.join(f'{h}x{w}' for h, w in sizes)}; a set of small images of "
            "one size keeps it, so choose that as image_size"
        )


def joint_order(orders: Sequence[Order]) -> Order:
    """Return `original` if every dataset is in the order of its own files, else `tfds`."""
    return "original" if set(orders) == {"original"} else "tfds"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) or "none"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
