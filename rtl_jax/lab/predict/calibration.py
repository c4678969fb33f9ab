"""Calibrated probabilities by temperature scaling, fitted on held-out predictions.

The temperature divides all logits and so changes no prediction (Guo et al., ICML 2017).
"""

import dataclasses
from typing import Any

import numpy as np
from scipy import optimize
from scipy.special import log_softmax, softmax

BINS = 10
_RANGE = (0.02, 50.0)  # of temperatures


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A temperature, and the expected calibration errors without and with one, in percent.

    `after` is measured on folds that the temperature was not fitted on. `images` were held out.
    """

    temperature: float
    before: float
    after: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return what a network's provenance holds under 'calibration'."""
        return dataclasses.asdict(self)


def calibrate(logits: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> Calibration:
    """Fit to held-out logits [N, C] and int labels [N]; `folds`, int [N], are those of `deal`."""
    crossed = np.empty(logits.shape)
    for fold in np.unique(folds):
        inside = folds == fold
        temperature = fit_temperature(logits[~inside], labels[~inside])
        crossed[inside] = softmax(logits[inside] / temperature, axis=1)
    return Calibration(
        fit_temperature(logits, labels),
        calibration_error(softmax(logits, axis=1), labels),
        calibration_error(crossed, labels),
        len(labels),
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the lowest cross-entropy for logits [N, C], int labels [N]."""
    logits, rows = np.asarray(logits, np.float64), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        log_probabilities = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(log_probabilities[rows, labels].mean())

    found = optimize.minimize_scalar(loss, bounds=np.log(_RANGE), method="bounded")
    return float(np.exp(found.x))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error, in percent, of probabilities [N, C].

    It is the mean difference between the top class's probability and its accuracy, in ten bins of
    equal width.
    """
    top = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    bins = np.minimum((top * BINS).astype(int), BINS - 1)
    gaps = np.abs(np.bincount(bins, hits - top, minlength=BINS))
    return 100 * float(gaps.sum()) / len(labels)
