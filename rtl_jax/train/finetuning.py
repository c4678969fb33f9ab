"""A fine-tuning as plain objects: a source, images, a recipe and a seed."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rtl_jax.attacks.base import Attack
from rtl_jax.data.augmentation import Augmentation
from rtl_jax.data.dataset import ImageSet
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.runtime.digest import image_digests
from rtl_jax.train.head import new_head
from rtl_jax.train.program import Program
from rtl_jax.train.recipe import Recipe
from rtl_jax.train.split import SplitNetwork


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FineTuning:
    """The inputs of one fine-tuning.

    Attributes:
      source: the network whose frozen part is shared by all fine-tunings from it.
      network: the source with a new head for `class_names`.
      train: the images from which `train_indices`, int [N], in the order drawn, select.
      test: the images from which `test_indices`, int [M], ascending, select; or None.
      program: the static part.
      seed: the seed of the head, the batches and the augmentation.
    """

    source: Network
    network: Network
    program: Program
    train: ImageSet
    train_indices: np.ndarray
    test: ImageSet | None
    test_indices: np.ndarray
    class_names: Sequence[str]
    seed: int

    @property
    def key(self) -> jax.Array:
        """The key for the batch order and the augmentation."""
        return jax.random.fold_in(jax.random.key(self.seed), 1)

    @property
    def training_images(self) -> ImageSet:
        """The selected training images."""
        return self.train.take(self.train_indices)

    @property
    def test_images(self) -> ImageSet:
        """The selected test images; there must be a test set."""
        assert self.test is not None
        return self.test.take(self.test_indices)

    def provenance(self) -> dict[str, Any]:
        """Return the provenance recorded in the fine-tuned network."""
        return {
            "kind": "fine-tuned",
            "source": dict(self.network.provenance),
            "image_size": self.program.network.image_size,
            "class_names": list(self.class_names),
            "training_images": image_digests(self.training_images.images),
        }


def start(
    source: Network,
    train: ImageSet,
    *,
    class_names: Sequence[str],
    image_size: int,
    recipe: Recipe,
    augmentation: Augmentation,
    seed: int,
    train_indices: np.ndarray | None = None,
    test: ImageSet | None = None,
    test_indices: np.ndarray | None = None,
    perturb: Attack | None = None,
) -> dict[str, Any]:
    """Return the fields of a `FineTuning`, with a new head drawn from the seed.

    Indices select images, by default all; `perturb` is an attack on the training images.

    Raises:
      UserError: if the network has fewer blocks than the recipe trains, or the recipe names
        something that optax does not have.
    """
    architecture = source.architecture.replace(num_classes=len(class_names))
    # Fails early if there are too many blocks.
    network = SplitNetwork.of(architecture, recipe, image_size)
    train_indices = np.arange(len(train)) if train_indices is None else train_indices
    if test_indices is None:
        test_indices = np.arange(0 if test is None else len(test))
    program = Program(
        network.replace(dtype=devices.compute_dtype(recipe.precision)),
        recipe,
        augmentation,
        recipe.epochs_for(len(train_indices)),
        perturb,
    )
    program.check()
    return {
        "source": source,
        "network": new_head(source, architecture, recipe.head, seed),
        "program": program,
        "train": train,
        "train_indices": train_indices,
        "test": test,
        "test_indices": test_indices,
        "class_names": class_names,
        "seed": seed,
    }
