"""Fit the heads of many seeds in parallel: from features and labels to a kernel and a bias."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import log_softmax

from rtl_jax.errors import UserError
from rtl_jax.runtime import devices
from rtl_jax.train.heads.logistic import logistic
from rtl_jax.train.heads.ridge import ridge

FOLDS = 5  # in the cross-validation of a logistic head

# The most float64 numbers that seeds fitted in parallel may take; further seeds follow.
_ROOM = 2**27


class FittedHead(NamedTuple):
    """A fitted head: kernel float32 [d, C] and bias float32 [C].

    record: the method and its parameters, for JSON. measured: loss (nats) and accuracy (percent) on
    the images used for fitting.
    """

    kernel: np.ndarray
    bias: np.ndarray
    record: dict[str, Any]
    measured: dict[str, float]


def fit_heads(
    method: str, features: Sequence[np.ndarray], labels: Sequence[np.ndarray], num_classes: int
) -> list[FittedHead]:
    """Fit a head for each seed's features, float [N, d], and int labels [N].

    All seeds have the same number of images. `method` is 'ridge' or 'logistic'. Computed in
    float64; the result applies to the unscaled features of the network.

    Raises UserError for fewer than two images or non-finite features.
    """
    number, width = features[0].shape
    if number < 2:
        raise UserError(
            f"transfer.head_fit: {method!r} chooses its penalty on images that are left out, and "
            f"needs two or more to train on; received {number}: use 'sgd', or more images"
        )
    if not all(np.isfinite(one).all() for one in features):
        raise UserError(
            f"transfer.head_fit: {method!r} expects finite features, received some that are not: "
            "is the source a network whose training diverged?"
        )
    at_once = max(1, _ROOM // (4 * number * (width + min(number, width))))
    found: list[FittedHead] = []
    # A TPU cannot compute eigenvectors in float64.
    device = jax.local_devices(backend="cpu")[0] if devices.platform() == "tpu" else None
    with jax.enable_x64(True), jax.default_matmul_precision("highest"), jax.default_device(device):
        for start in range(0, len(features), at_once):
            part = np.s_[start : start + at_once]
            found += _fit(method, features[part], labels[part], num_classes)
    return found


def _fit(
    method: str, features: Sequence[np.ndarray], labels: Sequence[np.ndarray], num_classes: int
) -> list[FittedHead]:
    inputs = np.stack(features).astype(np.float64)
    classes = np.stack(labels).astype(np.int32)
    if method == "ridge":
        fits = jax.device_get(_ridges(inputs, classes, num_classes))
        hits = 100 * (fits.scores.argmax(-1) == classes).mean(1)
        more = {"scale": fits.scale, "leave_one_out_accuracy": hits}
    else:
        folds = min(FOLDS, classes.shape[1])
        dealt = np.stack([deal_evenly(one, folds) for one in classes])
        fits = jax.device_get(_logistics(inputs, classes, dealt, num_classes, folds))
        more = {}
    return [
        FittedHead(
            np.asarray(fits.kernel[seed], np.float32),
            np.asarray(fits.bias[seed], np.float32),
            {
                "method": method,
                "l2": float(fits.l2[seed]),
                **{name: float(values[seed]) for name, values in more.items()},
            },
            _measure(inputs[seed] @ fits.kernel[seed] + fits.bias[seed], classes[seed]),
        )
        for seed in range(len(inputs))
    ]


def _measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    losses = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    hits = logits.argmax(1) == labels
    return {"loss": float(losses.mean()), "accuracy": 100 * float(hits.mean())}


@partial(jax.jit, static_argnums=2)
def _ridges(features: jax.Array, labels: jax.Array, num_classes: int) -> Any:
    return jax.vmap(partial(ridge, num_classes=num_classes))(features, labels)


@partial(jax.jit, static_argnums=(3, 4))
def _logistics(
    features: jax.Array, labels: jax.Array, folds: jax.Array, num_classes: int, num_folds: int
) -> Any:
    fit = partial(logistic, num_classes=num_classes, num_folds=num_folds)
    return jax.vmap(fit)(features, labels, folds)


def deal_evenly(labels: np.ndarray, folds: int) -> np.ndarray:
    """Assign images to folds, int [N], dealing out one class after another.

    Unlike `data.folds.deal`, it accepts a class of a single image, which is then not scored.
    """
    dealt = np.empty(len(labels), np.int32)
    dealt[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % folds
    return dealt
