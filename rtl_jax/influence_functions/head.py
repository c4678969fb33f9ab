"""A softmax head and the examples on which it is evaluated: plain arrays, float64.

Dimensions, throughout this package: N examples (n training, T test images), d features, D inputs of
the head (the features and, if it has a bias, a 1), C classes, K the vectors of a basis of class
space. The loss is cross-entropy, z = W x~ are its logits [C], and parameters are ordered by class:
that of class c and input j has index c * D + j. An example's gradient is then the outer product of
two short vectors, e (x) x~ with e = softmax(z) - onehot(label), so N gradients are stored as
N x (C + D) numbers and never as N x CD.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from rtl_jax.errors import UserError


class Examples(NamedTuple):
    """The components of a head's gradients and Hessians, float64.

    Attributes:
      inputs: [N, D], the features, and a 1 for the bias.
      probabilities: [N, C], softmax outputs.
      errors: [N, C], the gradient with respect to the logits; each row sums to 0.
      losses: [N], nats.
      labels: int [N].
    """

    inputs: np.ndarray
    probabilities: np.ndarray
    errors: np.ndarray
    losses: np.ndarray
    labels: np.ndarray

    @property
    def num_examples(self) -> int:
        """N, the number of examples."""
        return len(self.inputs)

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return self.errors.shape[1]

    @property
    def num_parameters(self) -> int:
        """C D, the number of parameters of the head."""
        return self.errors.shape[1] * self.inputs.shape[1]

    def take(self, rows: np.ndarray | slice) -> "Examples":
        """Select the examples at `rows`."""
        return Examples(*(array[rows] for array in self))

    def gradients(self) -> np.ndarray:
        """Compute the full gradient of each example's loss, [N, C, D]; meant for a few examples."""
        return self.errors[:, :, None] * self.inputs[:, None, :]


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """A softmax head: kernel [d, C], and bias [C] or None.

    Raises:
      UserError: the shapes do not match, or a value is not finite.

    Example:
        >>> import numpy as np
        >>> from rtl_jax.influence_functions import Head
        >>> head = Head(np.eye(2), np.zeros(2))
        >>> head.examples(np.ones((3, 2)), np.array([0, 1, 0])).errors.shape
        (3, 2)
    """

    kernel: np.ndarray
    bias: np.ndarray | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.kernel) != 2 or np.shape(self.kernel)[1] < 2:
            raise UserError(
                f"head: expected a kernel [features, classes] of two classes or more, received "
                f"{list(np.shape(self.kernel))}"
            )
        if self.bias is not None and np.shape(self.bias) != np.shape(self.kernel)[1:]:
            raise UserError(
                f"head: expected a bias [{np.shape(self.kernel)[1]}], one per class, or none; "
                f"received {list(np.shape(self.bias))}"
            )
        require_finite("head", self.weights)

    @property
    def weights(self) -> np.ndarray:
        """W [C, D] float64, with the bias as its last column."""
        kernel = np.asarray(self.kernel, np.float64).T
        if self.bias is None:
            return kernel
        return np.concatenate([kernel, np.asarray(self.bias, np.float64)[:, None]], axis=1)

    def examples(self, features: np.ndarray, labels: np.ndarray) -> Examples:
        """Return the `Examples` of this head for features [N, d] and int labels [N].

        Raises:
          UserError: other shapes, labels outside 0 .. C - 1, or values that are not finite.
        """
        inputs = self.inputs(features)
        labels = np.asarray(labels)
        classes = np.shape(self.kernel)[1]
        if labels.shape != inputs.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(
                f"labels: expected integers [{len(inputs)}], one for each row of features; "
                f"received {labels.dtype} {list(labels.shape)}"
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise UserError(
                f"labels: the head has the classes 0..{classes - 1}, received "
                f"{labels.min()}..{labels.max()}"
            )
        log_probabilities = log_softmax(inputs @ self.weights.T, axis=1)
        probabilities = np.exp(log_probabilities)
        rows = np.arange(len(labels))
        errors = probabilities.copy()
        errors[rows, labels] -= 1
        losses = -log_probabilities[rows, labels]
        return Examples(inputs, probabilities, errors, losses, labels)

    def inputs(self, features: np.ndarray) -> np.ndarray:
        """Return [N, D] float64: the features [N, d], followed by a 1 if there is a bias."""
        expected = np.shape(self.kernel)[0]
        if np.ndim(features) != 2 or np.shape(features)[1] != expected or not len(features):
            raise UserError(
                f"features: the head takes [N, {expected}], received {list(np.shape(features))}"
            )
        inputs = np.asarray(features, np.float64)
        require_finite("features", inputs)
        if self.bias is None:
            return inputs
        return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def require_finite(what: str, values: np.ndarray) -> None:
    """Raise UserError unless all values are finite."""
    if not np.isfinite(values).all():
        raise UserError(
            f"{what}: expected finite numbers, received some that are not: has training diverged?"
        )


def contrasts(num_classes: int) -> np.ndarray:
    """Return an orthonormal basis [C, C - 1] of the class vectors that sum to 0 (Helmert's).

    A softmax's errors lie in its span, so it represents gradients and Hessian with (C - 1) / C of
    the dimensions.
    """
    from scipy.linalg import helmert

    return helmert(num_classes).T
