"""Transferability scores from the literature: how well a source's features fit new labels.

Each takes features [N, d], or the source's probabilities [N, K], and int labels [N] of C classes,
each of which has at least one image; all in float64. Higher is better.
"""

import numpy as np
from scipy.spatial.distance import cdist

_STEPS = 100
_TOLERANCE = 1e-6


def log_me(features: np.ndarray, labels: np.ndarray) -> float:
    """Compute LogME: maximum log evidence of a Bayesian linear model, per image (You et al., 2021).

    y = F w + noise with w ~ N(0, I / alpha) and noise N(0, 1 / beta), for one-hot labels, averaged
    over classes. alpha and beta are found by the authors' fixed-point iteration (their algorithm 1,
    with one decomposition for all classes).
    """
    number, width = features.shape
    left, lengths, _ = np.linalg.svd(features, full_matrices=False)
    squares, evidence = lengths**2, []
    for label in np.unique(labels):
        target = (labels == label).astype(np.float64)
        inside = (left.T @ target) ** 2
        outside = max(target @ target - inside.sum(), 0.0)
        alpha = beta = 1.0
        for _ in range(_STEPS):
            ratio = alpha / beta
            gamma = (squares / (squares + ratio)).sum()
            weights = (squares * inside / (squares + ratio) ** 2).sum()  # |m|^2
            residual = (inside * (ratio / (squares + ratio)) ** 2).sum() + outside
            alpha = gamma / max(weights, 1e-12)
            beta = (number - gamma) / max(residual, 1e-12)
            if abs(alpha / beta - ratio) <= _TOLERANCE * ratio:
                break
        ratio = alpha / beta
        weights = (squares * inside / (squares + ratio) ** 2).sum()
        residual = (inside * (ratio / (squares + ratio)) ** 2).sum() + outside
        determinant = np.log(alpha + beta * squares).sum() + (width - len(squares)) * np.log(alpha)
        evidence.append(
            width / 2 * np.log(alpha)
            + number / 2 * np.log(beta)
            - number / 2 * np.log(2 * np.pi)
            - beta / 2 * residual
            - alpha / 2 * weights
            - determinant / 2
        )
    return float(np.mean(evidence) / number)


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """Compute tr(cov(f)^-1 cov(E[f | y])), the H-score (Bao et al., 2019), at most C - 1.

    With fewer images than features the sample covariance is singular: it is shrunk as by Ledoit and
    Wolf, by a share of which cov(E[f | y]) is reduced, too (Ibrahim et al., 2021).
    """
    # Here, because importing it takes a second.
    from sklearn.covariance import ledoit_wolf

    centred = features - features.mean(0)
    _, places = np.unique(labels, return_inverse=True)
    sums = np.zeros((places.max() + 1, features.shape[1]))
    np.add.at(sums, places, centred)
    means = (sums / np.bincount(places)[:, None])[places]
    covariance, share = ledoit_wolf(centred, assume_centered=True)
    between = (1 - share) * means.T @ means / len(labels)
    return float(np.trace(np.linalg.solve(covariance, between)))


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Compute LEEP: mean log-likelihood of labels given source classes (Nguyen et al., 2020)."""
    joint = _joint(probabilities, labels)
    conditional = joint / np.maximum(joint.sum(0), 1e-300)
    _, places = np.unique(labels, return_inverse=True)
    expected = probabilities @ conditional.T
    return float(np.log(expected[np.arange(len(labels)), places]).mean())


def nce(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Compute NCE: -H(Y | Z), with Z the source's own classes (Tran et al., 2019)."""
    named = np.eye(probabilities.shape[1])[probabilities.argmax(1)]
    joint = _joint(named, labels)
    there = joint > 0
    return float(
        (joint * np.log(np.where(there, joint / np.maximum(joint.sum(0), 1e-300), 1))).sum()
    )


def nearest_neighbour(features: np.ndarray, labels: np.ndarray) -> float:
    """Compute the fraction of images with the label of their nearest neighbour (Euclidean)."""
    distances = cdist(features, features)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(1)] == labels).mean())


def nearest_mean(features: np.ndarray, labels: np.ndarray) -> float:
    """Compute the fraction of images whose class mean, without them, is the nearest class mean."""
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), features.shape[1]))
    np.add.at(sums, places, features)
    distances = cdist(features, sums / counts[:, None])
    # A class with a single image has no mean without it.
    others = np.maximum(counts[places] - 1, 1)[:, None]
    own = np.linalg.norm(features - (sums[places] - features) / others, axis=1)
    distances[np.arange(len(labels)), places] = np.where(counts[places] > 1, own, np.inf)
    return float((distances.argmin(1) == places).mean())


def _joint(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute P(y, z), [C, K], for the classes that occur."""
    _, places = np.unique(labels, return_inverse=True)
    joint = np.zeros((places.max() + 1, probabilities.shape[1]))
    np.add.at(joint, places, probabilities)
    return joint / len(labels)
