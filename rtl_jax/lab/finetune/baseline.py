"""What the labels alone buy: a linear classifier on raw pixels, to hold transfer against."""

import numpy as np

from rtl_jax.data.dataset import ImageSet


def linear_pixels(train: ImageSet, test: ImageSet) -> dict[str, float]:
    """Fit multinomial logistic regression on standardised pixels; C is 1, scikit-learn's own.

    Returns accuracy (percent) and loss (nats) on `test` and on `train`, as a result row
    names them.
    """
    # Imported here, for few runs ask for it and it takes a second.
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(_flat(train), train.labels)
    measured = {}
    for prefix, images in (("", test), ("train_", train)):
        probabilities = model.predict_proba(_flat(images))
        hits = model.classes_[probabilities.argmax(1)] == images.labels
        measured[f"{prefix}accuracy"] = 100 * float(hits.mean())
        measured[f"{prefix}loss"] = float(
            log_loss(images.labels, probabilities, labels=model.classes_)
        )
    return measured


def _flat(images: ImageSet) -> np.ndarray:
    return images.images.reshape(len(images), -1) / 255.0
