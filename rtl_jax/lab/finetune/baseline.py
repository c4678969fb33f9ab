"""Classifiers on raw pixels, as baselines for transfer learning."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from rtl_jax.data.dataset import ImageSet
from rtl_jax.runtime.digest import digest
from rtl_jax.train.heads.fit import fit_heads

# Results are cached for this many recent training sets, which a sweep's sources, blocks and kinds
# of heads share.
_KEPT = 128
_measured: OrderedDict[str, dict[str, dict[str, float]]] = OrderedDict()


def pixel_baselines(train: ImageSet, test: ImageSet) -> dict[str, dict[str, float]]:
    """Fit every classifier of `FITS` on raw pixels; return their measurements by `method`.

    These are accuracy (percent) and loss (nats; nan for the nearest neighbour, which has no
    probabilities) on `test` and, with the prefix train_, on `train`.
    """
    key = digest([(half.images, half.labels) for half in (train, test)])
    if key not in _measured:
        _measured[key] = {name: _measure(fit, train, test) for name, fit in FITS.items()}
    _measured.move_to_end(key)
    while len(_measured) > _KEPT:
        _measured.popitem(last=False)
    return _measured[key]


# Maps pixels [M, D] to predicted classes, int [M], and log-probabilities [M, C] or None.
Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
# Fits to pixels [N, D] in [0, 1], labels and the number of classes C.
Fit = Callable[[np.ndarray, np.ndarray, int], Predict]


def linear(pixels: np.ndarray, labels: np.ndarray, classes: int) -> Predict:
    """Fit multinomial logistic regression to standardised pixels, with scikit-learn's C = 1."""
    # Imported here because it takes a second and few runs need it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(pixels, labels)

    def predict(others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.full((len(others), classes), -np.inf)
        found[:, model.classes_] = model.predict_log_proba(others)
        return found.argmax(1), found

    return predict


def ridge(pixels: np.ndarray, labels: np.ndarray, classes: int) -> Predict:
    """Fit the ridge head of `train.heads`, with its penalty chosen by leave-one-out."""
    from scipy.special import log_softmax

    (head,) = fit_heads("ridge", [pixels], [labels], classes)

    def predict(others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = log_softmax(others @ head.kernel + head.bias, axis=1)
        return found.argmax(1), found

    return predict


def nearest(pixels: np.ndarray, labels: np.ndarray, classes: int) -> Predict:
    """Fit a 1-nearest-neighbour classifier by Euclidean distance."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(1, algorithm="brute").fit(pixels, labels)

    return lambda others: (model.predict(others), None)


FITS: dict[str, Fit] = {"linear_pixels": linear, "ridge_pixels": ridge, "nearest_pixels": nearest}


def _measure(fit: Fit, train: ImageSet, test: ImageSet) -> dict[str, float]:
    classes = 1 + int(max(train.labels.max(), test.labels.max()))
    predict = fit(_flat(train), train.labels, classes)
    found = {}
    for prefix, images in (("", test), ("train_", train)):
        named, log_probabilities = predict(_flat(images))
        found[f"{prefix}accuracy"] = 100 * float((named == images.labels).mean())
        found[f"{prefix}loss"] = float("nan")
        if log_probabilities is not None:
            losses = -log_probabilities[np.arange(len(images)), images.labels]
            found[f"{prefix}loss"] = float(losses.mean())
    return found


def _flat(images: ImageSet) -> np.ndarray:
    return images.images.reshape(len(images), -1) / 255.0
