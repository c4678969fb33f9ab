"""Values of training images for the predictions on held-out images, from features.

n training images and T held-out images, with features [n, d] and [T, d] and labels of any type, of
C classes in all; computed in float64. A value is positive if the image helps.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy import linalg
from scipy.spatial.distance import cdist

from rtl_jax.errors import UserError, require


def knn_shapley(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    k: int = 5,
) -> np.ndarray:
    """Compute Shapley values [n] of training images for a k-nearest-neighbour classifier.

    The utility of a subset is the number of correct labels among its k images nearest to a held-out
    image (all of them, if it has fewer), divided by k and averaged over held-out images. With the
    training images sorted from the nearest, 1, to the farthest, n, the values are exactly (Jia et
    al., 2019, theorem 1)

        s_n = hit_n / n,    s_i = s_(i+1) + (hit_i - hit_(i+1)) / k * min(k, i) / i,

    averaged over the held-out images. They sum to the utility of all training images.

    Raises:
      UserError: if the arrays do not match, or k is outside 1 .. n.

    Example:
        >>> import numpy as np
        >>> from rtl_jax.influence_functions import knn_shapley
        >>> knn_shapley(np.array([[0.0], [1.0]]), np.array([0, 1]), np.zeros((1, 1)), [0], k=1)
        array([1., 0.])
    """
    labels, test_labels, _ = _checked(features, labels, test_features, test_labels)
    number = len(labels)
    require(1 <= k <= number, "knn_shapley: k", f"a number from 1 to {number}", k)
    total, ranks = np.zeros(number), np.arange(1, number)
    # Held-out images in chunks, so that their distances take at most about 64 MiB.
    size = max(1, 2**23 // number)
    for start in range(0, len(test_labels), size):
        rows = slice(start, start + size)
        distances = cdist(np.asarray(test_features)[rows], features)
        order = np.argsort(distances, axis=1, kind="stable")
        hits = (labels[order] == test_labels[rows, None]).astype(float)
        steps = (hits[:, :-1] - hits[:, 1:]) / k * np.minimum(k, ranks) / ranks
        last = hits[:, -1:] / number
        values = np.concatenate([np.cumsum(steps[:, ::-1], 1)[:, ::-1] + last, last], axis=1)
        np.add.at(total, order, values)
    return total / len(test_labels)


def ridge_values(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    l2: float,
) -> np.ndarray:
    """Compute leave-one-out values [n] of training images for a ridge head.

    A value is the increase of the squared error of the one-hot scores, summed over classes and
    averaged over held-out images, if the head (with an unpenalised bias, see
    `rtl_jax.train.heads.ridge`) is refitted without the image. This is exact, and computed for all
    images at once, from one factorisation.

    Raises:
      UserError: if the arrays do not match, there is a single training image, or l2 is not
        positive.
    """
    labels, test_labels, classes = _checked(features, labels, test_features, test_labels)
    require(len(labels) > 1, "ridge_values: labels", "two training images or more", len(labels))
    require(0 < l2 < np.inf, "ridge_values: l2", "a positive number", l2)
    targets, wanted = np.eye(classes)[labels], np.eye(classes)[test_labels]
    # Centring keeps the numbers small; the last column is the unpenalised bias.
    mean = np.mean(features, 0, dtype=np.float64)
    inputs, tested = (
        np.concatenate([one - mean, np.ones((len(one), 1))], 1)
        for one in (np.asarray(features, np.float64), np.asarray(test_features, np.float64))
    )
    penalties = np.append(np.full(inputs.shape[1] - 1, l2), 0)
    return _gains(inputs, targets, tested, wanted, penalties, np.full(len(inputs), True))


class Semivalues(NamedTuple):
    """Estimates of semivalues of n training images.

    Attributes:
      values: [n], positive where the image helps.
      standard_errors: [n], of `values`, from the spread over the subsets drawn.
    """

    values: np.ndarray
    standard_errors: np.ndarray


def ridge_semivalues(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    l2: float,
    *,
    kind: Literal["shapley", "banzhaf"] = "shapley",
    num_subsets: int = 200,
    seed: int = 0,
) -> Semivalues:
    """Estimate Shapley or Banzhaf values of training images for a ridge head.

    A semivalue of an image is by how much it lowers the squared error of the one-hot scores (summed
    over classes, averaged over the held-out images) when it joins a random subset of the others:
    one of uniform size for the Shapley value (Ghorbani and Zou, 2019), each image with probability
    1/2 for the Banzhaf value (Wang and Jia, 2023). Shapley values add up to what all images
    together gain over guessing.

    Other estimators fit a model for each subset and image. Here one factorisation for a subset S
    gives the exact change for all n images at once: that by leaving out each image in S, and that
    by adding each of the others. A size drawn uniformly from 0 to n leaves S without image i with
    a uniform size from 0 to n - 1, so the mean over subsets is unbiased for every image.

    The empty subset needs a head as well. Features are therefore centred once, on the mean of all
    n images, and scores start from 1/C: the head of a subset has no bias of its own, and that of
    the empty subset guesses.

    Args:
      l2: the penalty on the head's weights, as in `ridge_values`.
      kind: "shapley" or "banzhaf".
      num_subsets: how many subsets are drawn, at least 2. Standard errors fall as its square root.
      seed: of the draw.

    Raises:
      UserError: the arrays do not fit, l2 is not positive, or there is no such kind.
    """
    labels, test_labels, classes = _checked(features, labels, test_features, test_labels)
    require(0 < l2 < np.inf, "ridge_semivalues: l2", "a positive number", l2)
    require(kind in ("shapley", "banzhaf"), "ridge_semivalues: kind", "shapley or banzhaf", kind)
    require(num_subsets >= 2, "ridge_semivalues: num_subsets", "2 or more", num_subsets)
    number, draw = len(labels), np.random.default_rng(seed)
    targets, wanted = (np.eye(classes)[one] - 1 / classes for one in (labels, test_labels))
    inputs = np.asarray(features, np.float64)
    mean = inputs.mean(0)
    # The weights of any subset lie in the span of all centred rows, of at most n dimensions.
    left, scales, right = np.linalg.svd(inputs - mean, full_matrices=False)
    inputs, tested = left * scales, (np.asarray(test_features, np.float64) - mean) @ right.T
    penalties = np.full(inputs.shape[1], l2)
    total, squares = np.zeros(number), np.zeros(number)
    for _ in range(num_subsets):
        share = 0.5 if kind == "banzhaf" else draw.uniform()
        subset = draw.uniform(size=number) < share
        gains = _gains(inputs, targets, tested, wanted, penalties, subset)
        total += gains
        squares += gains**2
    values = total / num_subsets
    variances = np.maximum(squares / num_subsets - values**2, 0) / (num_subsets - 1)
    return Semivalues(values, np.sqrt(variances))


def _gains(
    inputs: np.ndarray,
    targets: np.ndarray,
    tested: np.ndarray,
    wanted: np.ndarray,
    penalties: np.ndarray,
    subset: np.ndarray,
) -> np.ndarray:
    """Return by how much each image lowers the held-out error when it joins the others in `subset`.

    With H = X_S^T X_S + diag(penalties), h_i = x_i^T H^-1 x_i and the residual r_i of the fit to S,
    the fit without i in S is W - H^-1 x_i r_i^T / (1 - h_i), the fit with another i W + H^-1 x_i
    r_i^T / (1 + h_i).
    """
    seen = inputs[subset]
    matrix = seen.T @ seen
    matrix[np.diag_indices(len(matrix))] += penalties
    solved = linalg.cho_solve(linalg.cho_factor(matrix), inputs.T)  # H^-1 X^T, [D, n]
    weights = solved[:, subset] @ targets[subset]
    signs = np.where(subset, -1.0, 1.0)
    leverages = (inputs * solved.T).sum(1)
    steps = signs[:, None] * (targets - inputs @ weights) / (1 + signs * leverages)[:, None]
    errors, moves = wanted - tested @ weights, tested @ solved  # [T, C] and [T, n]
    changes = (moves**2).mean(0) * (steps**2).sum(1) - 2 * (moves * (errors @ steps.T)).mean(0)
    return -signs * changes


def _checked(
    features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return both labels as 0 .. C - 1 and C, the number of different ones, given any labels."""
    shapes = [np.shape(one) for one in (features, test_features)]
    numbers = [len(one) for one in (labels, test_labels)]
    good = all(len(shape) == 2 for shape in shapes) and shapes[0][1:] == shapes[1][1:]
    if not good or [shape[0] for shape in shapes] != numbers or min(numbers) < 1:
        raise UserError(
            "data values: expected features [n, d] and [T, d] with n and T labels, received "
            f"{list(shapes[0])}, {list(shapes[1])}, {numbers[0]} and {numbers[1]}"
        )
    if not all(np.isfinite(one).all() for one in (features, test_features)):
        raise UserError("data values: expected finite features, received some that are not")
    known, test = np.asarray(labels), np.asarray(test_labels)
    expected = "labels [n] and [T], one for each image"
    require(known.ndim == test.ndim == 1, "data values", expected, (known.shape, test.shape))
    names, places = np.unique(np.concatenate([known, test]), return_inverse=True)
    return places[: len(known)], places[len(known) :], len(names)
