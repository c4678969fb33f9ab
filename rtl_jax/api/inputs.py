"""Images and labels as users pass them, as the library takes them."""

import contextlib
import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.structure import lowered
from rtl_jax.data.arrays import as_uint8, checked_images, encode_labels
from rtl_jax.data.transforms import prepare_to_attack
from rtl_jax.errors import UserError
from rtl_jax.models.network import DEFAULT_IMAGE_SIZE, LogitsFn, Network
from rtl_jax.runtime.digest import digest, image_digests
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
    model: Network | LogitsFn, images: Any, labels: Any, *keys: jax.Array, batch_size: int = 1
) -> tuple[LogitsFn, np.ndarray, np.ndarray]:
    """Convert to the inputs of attacks: a function, float images and int labels.

    `keys` are what a randomised function takes besides images, of which it gets `batch_size` at
    once. Raises UserError unless there are images with a label each, which is a class of the model.
    """
    if isinstance(model, Network):
        classes = encode_labels(labels, model.class_names or class_numbers(model))
        whole = as_uint8(images)
        _require_pairs(whole, classes)
        warn_of_training_images(model, whole)
        return model.logits_fn(), resized(model, images), classes
    if not callable(model):
        raise UserError(
            "model: expected a network, or a function from images to logits, received "
            f"{type(model).__name__}{_HINTS.get(type(model).__name__, '')}"
        )
    pixels, classes = np.asarray(images), np.asarray(labels)
    if classes.dtype.kind not in "iu":
        raise UserError(
            "labels: expected whole numbers with a function, whose classes have no names; "
            f"received {classes.dtype}"
        )
    _require_pairs(pixels, classes)
    some = jnp.asarray(pixels[:batch_size])
    some = some.astype(jnp.promote_types(some.dtype, jnp.float32))
    if any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(model)):
        logits = jax.eval_shape(model, some, *keys)
    else:
        program = lowered(model, some, *keys)
        logits, model = program.out_info, _Function(model, digest((), {"": program.as_text()}))
    if logits.ndim != 2:
        raise UserError(f"model: expected logits [N, classes], received {list(logits.shape)}")
    last = logits.shape[1] - 1
    if classes.min() < 0 or classes.max() > last:
        raise UserError(
            f"labels: expected 0 to {last}, the function's classes, found {classes.min()} to "
            f"{classes.max()}"
        )
    # In 8 bits, indices of more than 256 classes would overflow.
    return model, pixels, classes.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class _Function:
    """A function whose weights are constants of the programs that are compiled for it.

    JAX would run a program that it compiled earlier, with the weights of then. An instance is equal
    to another one only if their weights are.
    """

    function: LogitsFn
    program: str  # a digest of its program, constants included

    def __call__(self, *inputs: jax.Array) -> jax.Array:
        return self.function(*inputs)


def _require_pairs(images: np.ndarray, labels: np.ndarray) -> None:
    """Raise UserError unless there is a label for each of one or more images."""
    if images.ndim < 2 or labels.ndim != 1 or not 0 < len(images) == len(labels):
        raise UserError(
            "images and labels: expected [N, ...] and [N], a label for each of one or more images; "
            f"received {list(images.shape)} and {list(labels.shape)}"
        )


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
        np.asarray(prepare_to_attack(pixels[start : start + 256], size))
        for start in range(0, len(pixels), 256)
    ]
    return np.concatenate(parts)


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
