"""The results on held-out images that a network stores, for guarantees of its predictions.

They are JSON, under 'guarantees' in the provenance, which is untrusted in networks from elsewhere.
"""

import base64
import binascii
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np

from rtl_jax.conformal.outliers import REFERENCES, Neighbours, p_values
from rtl_jax.conformal.sets import Conformal, Kind, Score
from rtl_jax.errors import UserError, shown
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import is_number, is_whole

_FURTHEST = 1e30  # bound on an energy, which has the magnitude of logits


@dataclasses.dataclass(frozen=True, eq=False)
class Guarantees:
    """Results on held-out images, with which predictions are compared.

    Attributes:
      conformal: scores of held-out images' true classes, at the network's temperature.
      energies: float64 [n], of held-out images.
      neighbours: directions in feature space, or None.
      split: the split point of their features, which are averaged over positions.
      folds: the number of networks that scored held-out images; 1: only this network.
    """

    conformal: Conformal
    energies: np.ndarray
    neighbours: Neighbours | None
    split: int | None
    folds: int

    @property
    def images(self) -> int:
        """The number of held-out images."""
        return len(self.energies)

    def sets(
        self, probabilities: np.ndarray, coverage: float, *, by_class: bool, uniforms: np.ndarray
    ) -> np.ndarray:
        """Compute prediction sets that are never empty, bool [N, C]."""
        return self.conformal.sets(
            probabilities, coverage, by_class=by_class, uniforms=uniforms, nonempty=True
        )

    def outliers(self, energies: np.ndarray, features: np.ndarray | None) -> dict[str, np.ndarray]:
        """Compute the p-values of new images by each score, float64 [N].

        `energies` are [N], and `features` are [N, d] at the split point.
        """
        found = {"energy": p_values(self.energies, energies)}
        if self.neighbours is not None and features is not None:
            found["distance"] = self.neighbours.p_values(features)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types; arrays of features are base64 of little-endian float16."""
        near = self.neighbours
        return {
            "score": dataclasses.asdict(self.conformal.score),
            "scores": self.conformal.scores.tolist(),
            "labels": self.conformal.labels.tolist(),
            "energies": self.energies.tolist(),
            "folds": self.folds,
            "neighbours": None if near is None else {
                "split": self.split,
                "k": near.k,
                "shape": list(near.features.shape),
                "features": base64.b64encode(near.features.astype("<f2").tobytes()).decode(),
            },
        }  # fmt: skip

    @classmethod
    def from_dict(cls, known: object, num_classes: int, num_blocks: int) -> "Guarantees":
        """Read the result of `to_dict`. Raises UserError, naming the entry, if it is invalid."""
        table = _table(known, "guarantees")
        score = _score(_table(table.get("score"), "guarantees.score"))
        labels = _list(table.get("labels"), "labels")
        scores, energies = (_list(table.get(name), name) for name in ("scores", "energies"))
        if not len(labels) == len(scores) == len(energies) > 0:
            raise UserError(
                "guarantees: expected scores, labels and energies, one for each image, received "
                f"{len(scores):,}, {len(labels):,} and {len(energies):,}"
            )
        most = 1 + score.penalty * num_classes
        _all(scores, lambda one: is_number(one, -1e-6, most + 1e-6), "scores", "scores of classes")
        _all(labels, lambda one: is_whole(one, 0, num_classes - 1), "labels", "numbers of classes")
        _all(energies, lambda one: is_number(one, -_FURTHEST, _FURTHEST), "energies", "numbers")
        folds = table.get("folds")
        _require(is_whole(folds, 1, limits.FOLDS), "folds", "a positive whole number", folds)
        assert isinstance(folds, int)
        near, split = table.get("neighbours"), None
        if near is not None:
            near = _table(near, "guarantees.neighbours")
            split = near.get("split")
            words = f"a whole number from 0 to {num_blocks}"
            _require(is_whole(split, 0, num_blocks), "neighbours.split", words, split)
        return cls(
            Conformal(score, np.array(scores, np.float64), np.array(labels, np.int64)),
            np.array(energies, np.float64),
            None if near is None else _neighbours(near),
            split,
            folds,
        )


def _score(table: Mapping[str, Any]) -> Score:
    names = {field.name for field in dataclasses.fields(Score)}
    if set(table) != names:
        raise UserError(f"guarantees.score: expected {', '.join(sorted(names))} and nothing else")
    kinds, kind = get_args(Kind), table["kind"]
    _require(isinstance(kind, str) and kind in kinds, "score.kind", f"one of {kinds}", kind)
    good = is_number(table["penalty"], 0, 1e6)
    _require(good, "score.penalty", "a number from 0 to 1e6", table["penalty"])
    good = is_whole(table["free"], 0, limits.CLASSES)
    _require(good, "score.free", f"0 to {limits.CLASSES:,}", table["free"])
    drawn = table["randomised"]
    _require(isinstance(drawn, bool), "score.randomised", "true or false", drawn)
    return Score(**table)


def _neighbours(table: Mapping[str, Any]) -> Neighbours:
    k: Any = table.get("k")
    shape: Any = table.get("shape")
    text = table.get("features")
    _require(is_whole(k, 1, REFERENCES - 1), "neighbours.k", "a positive whole number", k)
    good = isinstance(shape, list) and len(shape) == 2
    good = good and is_whole(shape[0], k + 1, REFERENCES) and is_whole(shape[1], 1, limits.FEATURES)
    _require(good, "neighbours.shape", f"images (more than k, at most {REFERENCES}) and features",
             shape)  # fmt: skip
    size = 2 * shape[0] * shape[1]
    words = f"{size:,} bytes in base64, of finite numbers"
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        content = b""
    _require(len(content) == size, "neighbours.features", words, text)
    found = np.frombuffer(content, "<f2").reshape(shape)
    _require(bool((np.abs(found) <= 1.01).all()), "neighbours.features", words, text)
    return Neighbours(found, k)


def _all(values: list, holds: Callable[[Any], bool], name: str, words: str) -> None:
    odd = [one for one in values if not holds(one)]
    _require(not odd, name, f"a list of {words}", odd[0] if odd else None)


def _list(value: object, name: str) -> list:
    _require(isinstance(value, list), name, "a list", value)
    assert isinstance(value, list)
    return value


def _table(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{name}: expected a table, received {_short(value)}")
    return value


def _require(good: bool, name: str, words: str, value: object) -> None:
    if not good:
        raise UserError(f"guarantees.{name}: expected {words}, received {_short(value)}")


def _short(value: object) -> str:
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else shown(value)
