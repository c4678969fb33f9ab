"""Accuracy under the common corruptions of Hendrycks and Dietterich (ICLR 2019)."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.attacks.base import LogitsFn
from rtl_jax.attacks.structure import ModelStructure
from rtl_jax.data.batching import padded_batches
from rtl_jax.data.corruptions.corrupt import content_indices, corrupt
from rtl_jax.data.corruptions.errors import mean_corruption_error
from rtl_jax.data.corruptions.frost import require_photographs
from rtl_jax.data.corruptions.severities import SEVERITIES, STANDARD, Corruption
from rtl_jax.errors import UserError, require, require_whole
from rtl_jax.train.metrics import Metrics, measure


@dataclasses.dataclass(frozen=True)
class CorruptionAccuracy:
    """Fractions of images classified correctly.

    clean: without corruption.
    by_corruption: for each corruption, the fractions at each of `severities`.
    """

    clean: float
    by_corruption: Mapping[str, tuple[float, ...]]
    severities: tuple[int, ...]

    @property
    def mean(self) -> float:
        """The mean over corruptions and severities."""
        return float(np.mean(list(self.by_corruption.values())))

    def mean_error(self, reference: "CorruptionAccuracy") -> float:
        """Compute the mean corruption error mCE, in percent of the reference's.

        Raises UserError if other corruptions or severities were measured for the reference.
        """
        mine, theirs = (
            {name: [1 - share for share in each] for name, each in one.by_corruption.items()}
            for one in (self, reference)
        )
        if mine.keys() != theirs.keys() or self.severities != reference.severities:
            raise UserError("mean_error: expected a reference with the same corruptions")
        return mean_corruption_error(mine, theirs)


def evaluate(
    logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray, batch_size: int = 128
) -> Metrics:
    """Sum losses and hits of a function from images [N, H, W, 3] in [0, 1] to logits.

    `images` are uint8. Raises UserError if logits are not finite.
    """
    model, arrays = ModelStructure.split(logits_fn)
    total = Metrics.zero()
    for rows, _, inside in padded_batches(len(images), batch_size):
        pixels = jax.device_put(images[rows])
        total = total.add(_measure(model, arrays, pixels, jax.device_put(labels[rows]), inside))
    if not np.isfinite(float(total.loss)):
        raise UserError("the network's logits are not finite: it has diverged, or is damaged")
    return total


@partial(jax.jit, static_argnums=0)
def _measure(
    model: ModelStructure, arrays: list, images: jax.Array, labels: jax.Array, inside: jax.Array
) -> Metrics:
    logits = model.join(arrays)(images.astype(jnp.float32) / 255)
    return measure(logits, labels, inside)


def corruption_accuracy(
    logits_fn: LogitsFn,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    corruptions: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    batch_size: int = 128,
    progress: Callable[[str], None] = lambda name: None,
) -> CorruptionAccuracy:
    """Measure accuracy under each corruption at each severity.

    Args:
      logits_fn: maps images float32 [N, H, W, 3] in [0, 1] to logits [N, C].
      images: uint8 [N, H, W, 3], of the size that the function takes.
      labels: int [N].
      corruptions: their names, by default those of `STANDARD`.
      severities: one or more of 1 to 5.
      seed: the seed of random corruptions; an image's random numbers depend only on it and on the
        image's content.
      batch_size: images per program.
      progress: called with 'NAME:SEVERITY' after each is done.

    Raises:
      UserError: unknown corruptions, no severity, other images, frost without its photographs, or
        logits that are not finite.
    """
    several = list(severities) if isinstance(severities, Iterable) else []
    require(len(several) > 0, "severities", "a list of 1 to 5, such as [1, 3]", severities)
    batch_size = require_whole(batch_size, "batch_size")
    chosen = {
        name: [Corruption.of(name, severity) for severity in several]
        for name in corruptions or STANDARD
    }
    require_photographs(chosen)  # before anything is measured
    own = content_indices(images)

    def share(images: np.ndarray) -> float:
        return evaluate(logits_fn, images, labels, batch_size).means()["accuracy"] / 100

    def under(corruption: Corruption) -> float:
        found = share(corrupt(images, corruption, seed, indices=own))
        progress(str(corruption))
        return found

    clean = share(images)
    measured = {name: tuple(map(under, each)) for name, each in chosen.items()}
    return CorruptionAccuracy(clean, measured, tuple(several))
