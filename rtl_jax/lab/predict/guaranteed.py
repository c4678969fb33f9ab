"""The columns with a guarantee: prediction sets, and p-values for outliers."""

import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa

from rtl_jax.conformal import Guarantees, energy
from rtl_jax.conformal.draws import uniforms_of
from rtl_jax.lab.config import Predict
from rtl_jax.lab.predict.predictor import Predictor, Seen
from rtl_jax.runtime import limits

SEPARATOR = " | "


@dataclasses.dataclass(frozen=True, eq=False)
class Guaranteed:
    """A network's guarantees from held-out images, and the settings that ask for them."""

    predictor: Predictor
    kept: Guarantees
    settings: Predict

    @classmethod
    def of(cls, predictor: Predictor, settings: Predict) -> "Guaranteed | None":
        """Return the guarantees, or None if the network has none or none are asked for."""
        kept = predictor.network.guarantees
        if kept is None or (settings.coverage is None and not settings.outliers):
            return None
        return cls(predictor, kept, settings)

    @property
    def split(self) -> int | None:
        """The split point whose features are needed, or None."""
        return self.kept.split if self.settings.outliers else None

    @property
    def asked(self) -> tuple[Any, ...]:
        """Everything that the columns depend on besides the network's variables."""
        one = self.settings
        return one.coverage, one.coverage_by_class, one.outliers, self.kept.to_dict()

    @property
    def columns(self) -> list[tuple[str, pa.DataType]]:
        """The columns' names and types, in order."""
        found = []
        if self.settings.coverage is not None:
            found += [("prediction_set", pa.string()), ("set_size", pa.int64())]
        if self.settings.outliers:
            scores = ["energy"] if self.kept.neighbours is None else ["distance", "energy"]
            found += [(f"outlier_p_{name}", pa.float64()) for name in scores]
        return found

    def describe(self) -> str:
        """Describe the guarantees in a sentence."""
        if self.settings.coverage is None:
            return f"p-values of outliers are relative to {self.kept.images:,} held-out images"
        of = "the images of each class" if self.settings.coverage_by_class else "images"
        return (
            f"prediction sets are calibrated on {self.kept.images:,} held-out images to contain "
            f"the true class of {100 * self.settings.coverage:g} % of {of} like the training images"
        )

    def rows(self, seen: Seen, probabilities: np.ndarray) -> list[dict[str, Any]]:
        """Return the columns of images with these probabilities, [N, C]."""
        rows: list[dict[str, Any]] = [{} for _ in probabilities]
        if self.settings.coverage is not None:
            sets = self.kept.sets(
                probabilities,
                self.settings.coverage,
                by_class=self.settings.coverage_by_class,
                uniforms=uniforms_of(seen.images),
            )
            for row, inside, each in zip(rows, sets, probabilities, strict=True):
                row["prediction_set"] = self._named(inside, each)
                row["set_size"] = int(inside.sum())
        if self.settings.outliers:
            energies = energy(self.predictor.network.logits(seen.features))
            for name, values in self.kept.outliers(energies, seen.averaged).items():
                for row, value in zip(rows, values, strict=True):
                    row[f"outlier_p_{name}"] = float(value)
        return rows

    def _named(self, inside: np.ndarray, probabilities: np.ndarray) -> str:
        """Join the names of a set's classes, the most probable first."""
        order = np.argsort(-probabilities, kind="stable")
        labels = order[inside[order]]
        names = [self.predictor.class_names[label] for label in labels[: limits.SHOWN]]
        more = [] if len(labels) <= limits.SHOWN else ["..."]
        # A name that contains the separator's bar is quoted.
        return SEPARATOR.join([json.dumps(name) if "|" in name else name for name in names] + more)
