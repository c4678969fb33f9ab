"""Temperatures and calibration errors compared with their definitions."""

import numpy as np
import pytest
from scipy.special import softmax

from rtl_jax.lab.predict.calibration import calibrate, calibration_error, fit_temperature


def drawn(number: int, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Draw logits, and labels from their softmax, so that temperature 1 is calibrated."""
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (number, classes))
    labels = (softmax(logits, axis=1).cumsum(1) < draw.random((number, 1))).sum(1)
    return logits, labels.clip(0, classes - 1)


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_a_factor(factor: float) -> None:
    logits, labels = drawn(20_000)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


def test_the_error_by_its_definition() -> None:
    logits, labels = drawn(300)
    probabilities = softmax(2 * logits, axis=1)
    total = 0.0
    for low in np.arange(10) / 10:
        inside = [row for row in range(300) if low <= probabilities[row].max() < low + 0.1]
        if inside:
            sure = np.mean([probabilities[row].max() for row in inside])
            right = np.mean([probabilities[row].argmax() == labels[row] for row in inside])
            total += len(inside) / 300 * abs(sure - right)
    assert calibration_error(probabilities, labels) == pytest.approx(100 * total)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([1])) == 100


def test_calibration_helps_folds_it_has_not_seen() -> None:
    logits, labels = drawn(2_000)
    found = calibrate(3 * logits, labels, np.arange(2_000) % 5)
    assert found.temperature == pytest.approx(3, rel=0.1)
    assert found.after < 5 < found.before and found.images == 2_000
    inside = np.arange(2_000) % 5 == 0
    other = labels.copy()
    other[inside] = (labels[inside] + 1) % 5  # of one fold alone: nothing fits it
    crossed = calibrate(3 * logits, other, np.arange(2_000) % 5)
    assert crossed.after > found.after
