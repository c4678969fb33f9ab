"""A network with everything needed to use it: image size, class names, batch size."""

import dataclasses
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rtl_jax.data.batching import padded_rows
from rtl_jax.errors import UserError
from rtl_jax.influence_functions.head import Head
from rtl_jax.lab.config import Experiment, freeze
from rtl_jax.lab.inputs import load_network
from rtl_jax.lab.memory import Batch, require_memory
from rtl_jax.models.network import Network


class Seen(NamedTuple):
    """Images, uint8 [N, S, S, 3], and their features at the head, float32 [N, d].

    `averaged` are features at a split point, averaged over positions, float32 [N, c], or None.
    """

    images: np.ndarray
    features: np.ndarray
    averaged: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """A map from images to features to probabilities.

    Batches are padded to one size, so that a single program runs.
    """

    network: Network
    image_size: int
    class_names: tuple[str, ...]
    batch_size: int

    @classmethod
    def load(cls, experiment: Experiment) -> "Predictor":
        """Load the network that `source.checkpoint` names.

        If it does not state its image size, `target.image_size` is used; if it does not name its
        classes, their indices are. Raises UserError as `load_source`, if it has no head of its own,
        or if a batch would not fit in memory.
        """
        network = load_network(experiment.source, experiment.seed)
        if "head" in network.provenance:
            raise UserError(
                f"source.checkpoint: {experiment.source.checkpoint} has no trained head, and so no "
                "classes to predict: fine-tune it first (configs/my_images.py)"
            )
        size = network.image_size or experiment.target.image_size
        number = experiment.predict.batch_size
        require_memory(network.architecture, size, Batch("predict.batch_size", number))
        names = network.class_names or tuple(map(str, range(network.num_classes)))
        return cls(network, size, names, number)

    def describe(self) -> str:
        """Describe the calibration of its probabilities, and how its images were made different."""
        calibration = self.network.provenance.get("calibration")
        if not calibration:
            words = (
                "no temperature was fitted for this network, so probabilities are not calibrated "
                "(temperature 1)"
            )
        else:
            words = (
                f"probabilities at temperature {self.network.temperature:.3f}, fitted on held-out "
                "folds; their expected calibration error there is "
                f"{calibration['after']:.1f} %"
            )
        if variant := self.variant:
            words += (
                f". It was trained on images with {variant}; these are taken as they are, for "
                "which it may be wrong more often"
            )
        return words

    @property
    def variant(self) -> str | None:
        """The variant of images that the network was fine-tuned on, such as 'low_pass=1024'."""
        try:
            target = freeze(self.network.provenance["settings"]).target
        except (KeyError, UserError):  # of another version, or not fine-tuned here
            return None
        return dataclasses.replace(target, corruption=None).variant

    @cached_property
    def head(self) -> Head:
        """The network's last layer."""
        return Head(*self.network.head)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Compute the head's input, float32 [N, d], for up to a batch of uint8 [N, S, S, 3]."""
        rows = padded_rows(len(images), self.batch_size).rows
        found = self.network.features(
            images[rows], image_size=self.image_size, batch_size=self.batch_size
        )
        return found[: len(images)]

    def seen(self, images: np.ndarray, split: int | None) -> Seen:
        """Compute features of up to a batch of images and, if asked, those at a split point."""
        if split is None or split == self.network.architecture.num_blocks:
            features = self.features(images)
            return Seen(images, features, features if split is not None else None)
        rows = padded_rows(len(images), self.batch_size).rows
        both = self.network.features_at(
            images[rows], split, image_size=self.image_size, batch_size=self.batch_size
        )
        features, averaged = (found[: len(images)] for found in both)
        return Seen(images, features, averaged)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return class probabilities, float64 [N, C], of features [N, d], at the temperature."""
        return self.network.probabilities(features)
