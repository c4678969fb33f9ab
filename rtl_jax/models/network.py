"""A network: its architecture, its variables and its provenance."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from scipy.special import softmax

from rtl_jax.conformal import Guarantees, energy
from rtl_jax.conformal.draws import uniforms_of
from rtl_jax.data.arrays import as_uint8, checked_images
from rtl_jax.data.batching import batches_of_few_sizes
from rtl_jax.data.transforms import prepare
from rtl_jax.errors import UserError
from rtl_jax.models import registry, storage
from rtl_jax.models.convolution import ConvMethod
from rtl_jax.models.model import bind, check_variables, definition, variable_shapes
from rtl_jax.runtime import devices
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.paths import absolute
from rtl_jax.runtime.switches import pinned

# The image size for networks that do not record theirs: ImageNet's.
DEFAULT_IMAGE_SIZE = 224

LogitsFn = Callable[[jax.Array], jax.Array]


class HeadWeights(NamedTuple):
    """The head: kernel [features, classes] and bias [classes]."""

    kernel: np.ndarray
    bias: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network with its weights and provenance.

    Attributes:
      architecture: the structure, including image normalisation.
      params: a flat dictionary of float32 arrays by path.
      batch_stats: likewise, the BatchNorm statistics.
      provenance: JSON-serialisable facts: source file, sha256, training settings, and, if known,
        the entries that the properties below read.

    Example:
        >>> import rtl_jax as rtl
        >>> network = rtl.load("bundled:l2")
        >>> network.architecture.name, network.image_size, len(network.class_names)
        ('resnet26', 32, 100)
    """

    architecture: registry.Architecture
    params: Mapping[str, Any]
    batch_stats: Mapping[str, Any]
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """Describe the network without its weights."""
        size = "" if self.image_size is None else f", {self.image_size} px"
        return f"<Network {self.architecture.name}, {self.num_classes} classes{size}>"

    # ---- Properties -------------------------------------------------------------------------

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.architecture.num_classes

    @property
    def image_size(self) -> int | None:
        """The size in pixels of its training images; None if unknown."""
        target = (self.provenance.get("settings") or {}).get("target", {})
        return self.provenance.get("image_size") or target.get("image_size")

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of its classes, by label; None if unknown."""
        names = self.provenance.get("class_names")
        return None if names is None else tuple(names)

    @property
    def training_images(self) -> frozenset[str] | None:
        """The `image_digests` of all its training images; None if unknown."""
        every = self.provenance.get("training_images")
        return None if every is None else frozenset(every)

    @property
    def temperature(self) -> float:
        """The divisor of logits for calibrated probabilities; 1 unless one was fitted."""
        calibration = self.provenance.get("calibration")
        return calibration["temperature"] if calibration else 1.0

    @cached_property
    def guarantees(self) -> Guarantees | None:
        """The held-out data for prediction sets and outliers' p-values; None if there is none."""
        known = self.provenance.get("guarantees")
        if known is None:
            return None
        return Guarantees.from_dict(known, self.num_classes, self.architecture.num_blocks)

    @cached_property
    def digest(self) -> str:
        """The sha256, in hex, of the variables and what they do not show, such as the activation.

        It identifies the network in the names of runs.
        """
        return digest((dict(self.params), dict(self.batch_stats)), self.architecture.unseen or None)

    def columns(self) -> dict[str, Any]:
        """Return the columns of a result row that describe the network."""
        source = self.provenance.get("source")  # for a converted network, its file's name
        known = source if isinstance(source, Mapping) else {}
        return {
            "source_sha256": self.provenance.get("sha256") or known.get("sha256"),
            "architecture": self.architecture.name,
            "num_classes": self.architecture.num_classes,
        }

    # ---- Computation ------------------------------------------------------------------------

    @property
    def head(self) -> HeadWeights:
        """The final linear layer."""
        return HeadWeights(*(self.params[path] for path in self.architecture.head))

    def logits_fn(
        self, *, dtype: Any = jnp.float32, method: ConvMethod | None = None
    ) -> jax.tree_util.Partial:
        """Return a function from images [N, H, W, 3] in [0, 1] to logits [N, classes].

        It is a pytree, whose arrays become arguments of any compiled program it is passed to, and
        runs in evaluation mode.

        Args:
          dtype: the dtype in which blocks compute.
          method: the implementation of convolutions. To `jax.vmap` over variables with a leading
            axis (many seeds), choose 'dot'; see `models.convolution`.
        """
        graphdef = definition(self.architecture, dtype=dtype, method=method)
        return jax.tree_util.Partial(_logits, graphdef, *self._on_device)

    def features_fn(self, split: int | None = None) -> jax.tree_util.Partial:
        """Return a function from images [N, H, W, 3] to features at a split point.

        By default these are the inputs of the head.
        """
        split = self.architecture.num_blocks if split is None else split
        graphdef = definition(self.architecture)
        return jax.tree_util.Partial(_FeaturesAt(split), graphdef, *self._on_device)

    def features(
        self, images: np.ndarray, *, image_size: int | None = None, batch_size: int = 128
    ) -> np.ndarray:
        """Compute the inputs of the head, float32 [N, d].

        Args:
          images: [N, H, W, 1 or 3], uint8 or float in [0, 1]; resized to the network's size.
          image_size: a size to use instead.
          batch_size: images per batch; batches are padded to one size, so one program is compiled.
        """
        return self._features(self.features_fn(), images, image_size, batch_size)

    def features_at(
        self,
        images: np.ndarray,
        split: int,
        *,
        image_size: int | None = None,
        batch_size: int = 128,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute `features`, and those at a split point averaged over positions, float32 [N, c].

        One program computes both, and their common part only once.

        Args:
          images: as for `features`.
          split: the split point, from 0 to the number of blocks.
          image_size: as for `features`.
          batch_size: as for `features`.
        """
        network = definition(self.architecture)
        both = _FeaturesAt(self.architecture.num_blocks, averaged=split)
        features_fn = jax.tree_util.Partial(both, network, *self._on_device)
        return self._features(features_fn, images, image_size, batch_size)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return logits, float64 [N, classes], for features [N, d]."""
        kernel, bias = (np.asarray(part, np.float64) for part in self.head)
        return np.asarray(features, np.float64) @ kernel + bias

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return class probabilities, float64 [N, classes], for features [N, d]."""
        return softmax(self.logits(features) / self.temperature, axis=1)

    def predict_proba(self, images: np.ndarray, *, batch_size: int = 128) -> np.ndarray:
        """Return class probabilities, float64 [N, classes], at the network's temperature.

        Args:
          images: [N, H, W, 1 or 3] or [N, H, W], uint8 or float in [0, 1]; resized to the network's
            size, or to 224 if its `image_size` is None.
          batch_size: images per batch.

        Example:
            >>> import numpy as np, rtl_jax as rtl
            >>> network = rtl.load("bundled:l2")
            >>> network.predict_proba(np.zeros((2, 32, 32, 3), np.uint8)).shape
            (2, 100)
        """
        return self.probabilities(self.features(images, batch_size=batch_size))

    def predict_sets(
        self,
        images: np.ndarray,
        *,
        coverage: float = 0.9,
        by_class: bool = False,
        batch_size: int = 128,
    ) -> np.ndarray:
        """Return prediction sets, bool [N, classes], that contain the true class with `coverage`.

        They are never empty: the most probable class is in each. docs/predict.md says what is
        guaranteed. If the score needs a random number per image, it is a hash of the pixels.

        Args:
          images: as for `predict_proba`.
          coverage: the probability asked for, between 0 and 1.
          by_class: whether it holds for the images of each class, not just on average over all.
          batch_size: images per batch.

        Raises:
          UserError: if the network keeps no scores of held-out images (`rtl_jax.conformalize`).
        """
        pixels = as_uint8(images)
        probabilities = self.predict_proba(images, batch_size=batch_size)
        return self._kept.sets(
            probabilities, coverage, by_class=by_class, uniforms=uniforms_of(pixels)
        )

    def outlier_p_values(
        self, images: np.ndarray, *, batch_size: int = 128
    ) -> dict[str, np.ndarray]:
        """Return the p-values, float64 [N] in (0, 1], of images being of the training data's kind.

        They are by 'energy' of the logits and, if the network keeps features, by 'distance' to
        their neighbours. At most 5 % of images of the same kind have a p-value of at most 0.05.

        Args:
          images: as for `predict_proba`.
          batch_size: images per batch.

        Raises:
          UserError: if the network keeps no scores of held-out images (`rtl_jax.conformalize`).
        """
        kept = self._kept
        if kept.split is None:
            features, averaged = self.features(images, batch_size=batch_size), None
        else:
            features, averaged = self.features_at(images, kept.split, batch_size=batch_size)
        return kept.outliers(energy(self.logits(features)), averaged)

    @property
    def _kept(self) -> Guarantees:
        if self.guarantees is None:
            raise UserError(
                "the network keeps no scores of held-out images, which prediction sets and "
                "p-values need: networks of my_images do, and rtl_jax.conformalize(network, "
                "images, labels) returns one that does"
            )
        return self.guarantees

    # ---- Input and output -------------------------------------------------------------------

    def replace(self, **changes: Any) -> "Network":
        """Return the same network with some fields changed."""
        return dataclasses.replace(self, **changes)

    def save(self, directory: epath.PathLike) -> None:
        """Write the network atomically to a new directory.

        Raises:
          UserError: if something exists there already, a variable is missing, unexpected or of the
            wrong shape, or the disk cannot be written.
        """
        storage.require_absent(absolute(directory))
        check_variables(self.architecture, self.params, self.batch_stats, str(absolute(directory)))
        known = {
            "architecture": registry.to_dict(self.architecture),
            "provenance": dict(self.provenance),
        }
        storage.write_network(directory, known, self._trees)

    @classmethod
    def load(cls, directory: epath.PathLike) -> "Network":
        """Read a network that `save` wrote.

        Raises:
          UserError: if it is missing, damaged or inconsistent.
        """
        manifest, variables = storage.read_network(directory, _shapes)
        architecture = registry.from_dict(manifest["architecture"])
        trees = variables["params"], variables["batch_stats"]
        check_variables(architecture, *trees, str(absolute(directory)))
        return cls(architecture, *trees, manifest["provenance"])

    def export(self, destination: str | Path) -> Path:
        """Write the network for PyTorch, with the tensor names of its family.

        Such a file does not include normalisation: subtract `architecture.mean` from pixels in
        [0, 1] and divide by `architecture.std`. A .onnx or .stablehlo file is a function from
        pixels in [0, 1] to probabilities, including normalisation and temperature; a .timm is a
        folder that timm loads.

        Args:
          destination: a `.safetensors` file, or a `.pth` file, which needs torch.

        Returns:
          The path of the file.

        Raises:
          UserError: if the file extension is unknown or the destination exists.
        """
        for entry in entry_points(group="rtl_jax.exporters"):
            return entry.load()(self, destination, report=lambda _: None)
        raise UserError(
            "exporting needs rtl_jax to be installed, and it is only on the path: "
            "pip install rtl-jax, or pip install -e . in a checkout"
        )

    @property
    def _trees(self) -> storage.Trees:
        return {
            collection: {path: np.asarray(value, np.float32) for path, value in tree.items()}
            for collection, tree in (("params", self.params), ("batch_stats", self.batch_stats))
        }

    @cached_property
    def _on_device(self) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        return jax.device_put((dict(self.params), dict(self.batch_stats)))

    def _features(
        self,
        features_fn: jax.tree_util.Partial,
        images: np.ndarray,
        image_size: int | None,
        batch_size: int,
    ) -> Any:
        """Compute a pytree of features, [N, ...] each, batch by batch."""
        images, size = checked_images(images), image_size or self.image_size or DEFAULT_IMAGE_SIZE
        if images.ndim == 3:
            images = images[..., None]
        parts = []
        with pinned(), devices.matmul_precision("float32"):
            for batch in batches_of_few_sizes(len(images), batch_size):
                found = _prepared_features(features_fn, images[batch.rows], size)
                parts.append(jax.tree.map(lambda leaf, n=batch.number: np.asarray(leaf)[:n], found))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _shapes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    params, batch_stats = variable_shapes(registry.from_dict(manifest["architecture"]))
    return {"params": params, "batch_stats": batch_stats}


def _logits(
    graphdef: nnx.GraphDef, params: Mapping, batch_stats: Mapping, images: jax.Array
) -> jax.Array:
    return bind(graphdef, params, batch_stats)(images)


@dataclasses.dataclass(frozen=True)
class _FeaturesAt:
    """Features at a split point, which is a constant of the program like the structure.

    Unlike two `functools.partial`, two instances with the same split point are equal, so a program
    that takes them compiles once.
    """

    split: int
    averaged: int | None = None  # also return features at this one, averaged over positions

    def __call__(
        self, graphdef: nnx.GraphDef, params: Mapping, batch_stats: Mapping, images: jax.Array
    ) -> Any:
        network = bind(graphdef, params, batch_stats)
        found = network.prefix(images, self.split)
        if self.averaged is None:
            return found
        other = network.prefix(images, self.averaged)
        return found, other.mean(range(1, other.ndim - 1), dtype=jnp.float32)


@partial(jax.jit, static_argnums=2)
def _prepared_features(features_fn: jax.tree_util.Partial, images: jax.Array, size: int) -> Any:
    return features_fn(prepare(images, size))
