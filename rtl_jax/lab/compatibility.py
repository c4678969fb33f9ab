"""A network on a data set: at its own image size, with its own classes, on unseen images."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from rtl_jax.data import Dataset, ImageSet, draw_test_subset
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Target
from rtl_jax.lab.inputs import in_fold
from rtl_jax.models.network import Network
from rtl_jax.runtime.digest import image_digests
from rtl_jax.runtime.progress import say


def at_own_size(target: Target, networks: Mapping[str, Network]) -> Target:
    """Return the target at the image size that the networks, given by name, were trained at.

    If none states its size, `target.image_size` stays. Raises UserError if their sizes differ.
    """
    known = {name: one.image_size for name, one in networks.items() if one.image_size}
    sizes = sorted({size for size in known.values() if size is not None})
    if len(sizes) > 1:
        each = ", ".join(f"{name} at {size} px" for name, size in known.items())
        raise UserError(
            f"networks were trained at different image sizes ({each}): use one at a time"
        )
    if not sizes or sizes[0] == target.image_size:
        return target
    say(
        f"{', '.join(known)}: images are taken at {sizes[0]} px, as in training, not at "
        f"target.image_size={target.image_size}",
        once=True,
    )
    return dataclasses.replace(target, image_size=sizes[0])


def draw_test_images(target: Target, dataset: Dataset) -> np.ndarray:
    """Draw the indices of `target.num_test_images` test images, or of all if there are fewer.

    In cross-validation, they are the fold's. They are ascending, int64 [N].
    """
    labels = dataset.test.labels
    if target.fold is not None:
        return np.flatnonzero(in_fold(target, dataset.test))
    number = target.num_test_images
    if number is not None and number > len(labels):
        say(f"{dataset.name} has {len(labels)} test images, not {number}: all are used", once=True)
        number = None
    return draw_test_subset(labels, number, dataset.num_classes)


def with_own_labels(name: str, network: Network, dataset: Dataset, images: ImageSet) -> ImageSet:
    """Return images of a data set with the network's label indices.

    Classes are matched by name if both sides name them; names that are just the classes' indices do
    not count. Otherwise, the numbers of classes must agree. Raises UserError if they do not, or for
    a class that the network does not know.
    """
    known, asked = network.class_names, dataset.class_names
    if known is None or _numbered(known) or _numbered(asked):
        if network.num_classes != len(asked):
            raise UserError(
                f"{name} has {network.num_classes} classes and {dataset.name} has {len(asked)}: "
                "name a network that was trained or fine-tuned on these classes (the work "
                "directory of a run will do), or choose them with target.classes"
            )
        if known is not None and known != asked:
            pairs = ", ".join(
                f"{theirs} is {ours}" for ours, theirs in zip(known, asked, strict=True)
            )
            say(
                f"{name} and {dataset.name} name their classes differently; by number, {pairs}",
                once=True,
            )
        return images
    if known == asked:
        return images
    if unknown := [one for one in asked if one not in known]:
        raise UserError(
            f"{name} has no class{'es' * (len(unknown) > 1)} {', '.join(unknown)}, which "
            f"{dataset.name} has: its classes are {', '.join(known)}. Give the data set's classes "
            "the same names (for a folder, rename its folders), or select some with target.classes"
        )
    numbers = np.array([known.index(one) for one in asked], np.int32)
    say(
        f"{name} numbers the classes of {dataset.name} differently: they are matched by name",
        once=True,
    )
    return ImageSet(images.images, numbers[images.labels])


def other_classes(network: Network, names: tuple[str, ...]) -> bool:
    """Return whether the classes differ from the network's, which makes its head useless.

    If one side does not name its classes, only their numbers are compared.
    """
    known = network.class_names
    if network.num_classes != len(names) or known is None:
        return network.num_classes != len(names)
    return known != names and not _numbered(known) and not _numbered(names)


def unseen(name: str, network: Network, images: ImageSet) -> np.ndarray:
    """Return the indices, int64 [M], of the images that the network was not trained on.

    Images are identified by their 8-bit content. Raises UserError if none is left.
    """
    inside = _seen(network, images)
    if inside.all():
        raise UserError(
            f"{name} was trained on all {len(images)} test images, so its accuracy on them is not "
            "informative. Choose images that it has not seen (target.dataset with a folder test/, "
            "or target.test_dataset); my_images evaluates on held-out images, also under attack "
            "with my_images.robustness=True"
        )
    if inside.any():
        say(
            f"{name} was trained on {inside.sum()} of the {len(images)} test images: they are "
            "left out",
            once=True,
        )
    return np.flatnonzero(~inside)


def name_seen(
    name: str,
    network: Network,
    images: ImageSet,
    means: str = "its accuracy on these is not informative",
) -> None:
    """Print how many of the test images the network was trained on, if any.

    `means` is the consequence to state.
    """
    if number := int(_seen(network, images).sum()):
        say(f"{name} was trained on {number} of the {len(images)} test images: {means}", once=True)


def name_differences(name: str, source: Network, image_size: int, tested: ImageSet) -> None:
    """Print how a source's own training differs from what fine-tuning assumes.

    Its classes do not matter, since training gives it a new head.
    """
    if source.image_size not in (None, image_size):
        say(
            f"{name} was trained at {source.image_size} px, and images are taken at "
            f"{image_size} px",
            once=True,
        )
    name_seen(name, source, tested)


def _seen(network: Network, images: ImageSet) -> np.ndarray:
    known = network.training_images or frozenset()
    return np.array([one in known for one in image_digests(images.images)], bool)


def _numbered(names: tuple[str, ...]) -> bool:
    return names == tuple(map(str, range(len(names))))
