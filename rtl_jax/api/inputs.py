"""Images and labels as users pass them, as the library takes them."""

import contextlib
import warnings
from typing import Any

import numpy as np

from rtl_jax.data.arrays import as_uint8, checked_images, encode_labels
from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.models.network import DEFAULT_IMAGE_SIZE, LogitsFn, Network
from rtl_jax.runtime.digest import image_digests
from rtl_jax.runtime.switches import pinned

Labelled = tuple[Any, Any]  # images and labels


def pair(data: Labelled, name: str) -> Labelled:
    """Return images and labels. Raises UserError, naming the argument, for anything else."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise UserError(f"{name}: expected (images, labels), received {type(data).__name__}")
    images, labels = data
    return images, labels


def numbers_of(model: Network | LogitsFn) -> contextlib.AbstractContextManager[None]:
    """Pin JAX's switches for a network; a function keeps its caller's, such as float64."""
    return pinned() if isinstance(model, Network) else contextlib.nullcontext()


def prepared(
    model: Network | LogitsFn, images: Any, labels: Any
) -> tuple[LogitsFn, np.ndarray, np.ndarray]:
    """Convert to the inputs of attacks: a function, float images and int labels."""
    if not isinstance(model, Network):
        if not callable(model):
            raise UserError(
                "model: expected a network, or a function from images to logits, received "
                f"{type(model).__name__}{_HINTS.get(type(model).__name__, '')}"
            )
        classes = np.asarray(labels)
        if classes.dtype.kind not in "iu":
            raise UserError(
                "labels: expected whole numbers with a function, whose classes have no names; "
                f"received {classes.dtype}"
            )
        return model, np.asarray(images), classes
    names = model.class_names or class_numbers(model)
    classes = encode_labels(labels, names)
    warn_of_training_images(model, as_uint8(images))
    return model.logits_fn(), resized(model, images), classes


_HINTS = {
    "TransferClassifier": ": pass its network_",
    "list": ": pass one of its networks",
}


def resized(network: Network, images: Any) -> np.ndarray:
    """Resize images to the network's size: float [N, S, S, 3] in [0, 1]."""
    array = checked_images(images)
    pixels = array.reshape(*array.shape[:3], -1)  # with channels
    if pixels.dtype != np.uint8:
        pixels = np.clip(pixels, 0, 1)
    size = network.image_size or DEFAULT_IMAGE_SIZE
    parts = [
        np.asarray(prepare(pixels[start : start + 256], size))
        for start in range(0, len(pixels), 256)
    ]
    # Resizing may leave [0, 1] by a rounding error.
    return np.clip(np.concatenate(parts), 0, 1)


def warn_of_training_images(
    network: Network, images: np.ndarray, consequence: str = "its accuracy on them says little"
) -> None:
    """Warn if the network was trained on some of these images."""
    seen = network.training_images or frozenset()
    if number := sum(one in seen for one in image_digests(images)):
        warnings.warn(
            f"the network was trained on {number} of these {len(images)} images: {consequence}",
            stacklevel=4,
        )


def warn_of_other_images(network: Network, images: np.ndarray) -> None:
    """Warn if these are not the network's training images, as influence supposes."""
    if network.training_images is None:
        return
    given = set(image_digests(images))
    other, missing = len(given - network.training_images), len(network.training_images - given)
    if other or missing:
        warnings.warn(
            f"influence supposes the images that the network was trained on: {other} of the "
            f"{len(given)} different ones given are not among these, and {missing} of these are "
            "missing",
            stacklevel=5,
        )


def class_numbers(network: Network) -> tuple[str, ...]:
    return tuple(map(str, range(network.num_classes)))
