"""Fine-tuning as a scikit-learn classifier, for `cross_val_score`, `GridSearchCV`, a `Pipeline`."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from rtl_jax import api
from rtl_jax.models.network import Network
from rtl_jax.runtime.limits import require_seed


class TransferClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A new head and the last blocks of a robust network, fine-tuned on images.

    Args:
      source: a `Network`, or a name for `rtl.load`.
      blocks: the number of residual blocks to train in addition to the head; None: everything.
      epochs, learning_rate, batch_size: of the fine-tuning.
      image_size: the size to which images are resized; None: the training size of the source.
      augment: 'none', 'paper', or an `rtl_jax.Augmentation`.
      head_fit: 'sgd', or 'ridge' or 'logistic' for a fitted head; see `rtl_jax.Recipe`.
      seed: the seed of the head and the batch order.

    Attributes:
      classes_: the distinct labels, sorted, [C].
      network_: the fine-tuned `Network`.

    Example:
        >>> import numpy as np, rtl_jax as rtl
        >>> images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
        >>> labels = np.array(["cat", "dog"] * 4)
        >>> model = rtl.sklearn.TransferClassifier("bundled:l2", blocks=0, epochs=2)
        >>> model.fit(images, labels).predict(images).shape
        (8,)
    """

    def __init__(
        self,
        source: str | Network = "bundled:l2",
        *,
        blocks: int | None = 1,
        epochs: int = 30,
        learning_rate: float = 0.03,
        batch_size: int = 32,
        image_size: int | None = None,
        augment: Any = "none",
        head_fit: str = "sgd",
        seed: int = 0,
    ):
        self.source = source
        self.blocks = blocks
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.image_size = image_size
        self.augment = augment
        self.head_fit = head_fit
        self.seed = seed

    def fit(self, X: Any, y: Any) -> Self:
        """Fine-tune on images X, as `rtl_jax.finetune` takes them, and labels y, [N].

        Raises UserError as `rtl_jax.finetune` does.
        """
        source = api.load(self.source) if isinstance(self.source, str) else self.source
        labels = np.asarray(y)
        self.classes_ = np.unique(labels)
        self.network_ = api.finetune(
            source,
            X,
            labels,
            seeds=require_seed(self.seed, "seed"),
            image_size=self.image_size,
            augment=self.augment,
            blocks=self.blocks,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            head_fit=self.head_fit,
        )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities, float64 [N, C], in the order of `classes_`."""
        check_is_fitted(self)
        return self.network_.predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each image, [N]."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Images are four-dimensional arrays, for which scikit-learn has no tag.
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
