"""A network with what it takes to use it: image size, names of classes, a temperature."""

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from rtl_jax.influence.head import Head
from rtl_jax.lab.config import Experiment
from rtl_jax.models.checkpoint import Network
from rtl_jax.models.sources import Convert, load_source
from rtl_jax.runtime import devices
from rtl_jax.train import features as prefix
from rtl_jax.train.split import CutNetwork


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """Images to features to probabilities. Batches are padded to one size: one program runs."""

    network: Network
    image_size: int
    class_names: tuple[str, ...]
    temperature: float
    calibration_error: float | None  # percent; None: no temperature was fitted
    batch_size: int

    @classmethod
    def load(cls, experiment: Experiment, convert: Convert | None) -> "Predictor":
        """The network that `source.checkpoint` names.

        A network that was fine-tuned here knows its image size and its classes; of another the
        size is `target.image_size` and classes are numbers. Raises UserError as `load_source`.
        """
        network = load_source(experiment.source, seed=experiment.seed, convert=convert)
        known = network.provenance
        target = known.get("settings", {}).get("target", {})
        numbers = map(str, range(network.architecture.num_classes))
        calibration = known.get("calibration")
        return cls(
            network,
            target.get("image_size", experiment.target.image_size),
            tuple(known.get("class_names", numbers)),
            calibration["temperature"] if calibration else 1.0,
            calibration["after"] if calibration else None,
            experiment.predict.batch_size,
        )

    def describe(self) -> str:
        """What its probabilities are worth, in a sentence."""
        if self.calibration_error is None:
            return (
                "no temperature was fitted for this network, so it is 1 and probabilities are as "
                "sure of themselves as its training left them"
            )
        return (
            f"probabilities at temperature {self.temperature:.3f}, fitted on held-out folds; their "
            f"expected calibration error there is {self.calibration_error:.1f} %"
        )

    @cached_property
    def head(self) -> Head:
        """The network's last layer."""
        return Head(self.network.params["fc/kernel"], self.network.params["fc/bias"])

    @cached_property
    def _variables(self) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        return jax.tree.map(jnp.asarray, (self.network.params, self.network.batch_stats))

    def features(self, images: np.ndarray) -> np.ndarray:
        """What the head sees, float32 [N, d], of up to a batch of images, uint8 [N, S, S, 3]."""
        rows = np.minimum(np.arange(self.batch_size), len(images) - 1)
        cut = CutNetwork(self.network.architecture, 0, "source", self.image_size)
        with devices.matmul_precision("float32"):
            found = prefix.features(cut, *self._variables, images, rows, self.batch_size)
            return np.asarray(next(found))[: len(images)]

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Of the classes, float64 [N, C], at the temperature."""
        logits = self.head.inputs(features) @ self.head.weights.T
        return softmax(logits / self.temperature, axis=1)
