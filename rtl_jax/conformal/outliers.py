"""Outlier detection: two scores of how much an image differs from the training data, and p-values.

A p-value is the fraction of images, the held-out ones and the new one, whose score is at least that
of the new image. Images from the same distribution have a p-value of 0.05 or less with a
probability of at most 5 %, and likewise for any level: flagging p-values up to a level falsely
flags at most that fraction of them.
"""

import dataclasses
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from rtl_jax.conformal.sets import at_least
from rtl_jax.errors import UserError, require

REFERENCES = 1000  # the maximum number of reference images; of more, a random part is used
NEIGHBOURS = 5


def energy(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Compute the energy of images, -T log sum_c exp(f_c / T), float64 [N], from logits [N, C].

    It is larger for images unlike those learnt (Liu et al., NeurIPS 2020, equation 3).
    """
    return -temperature * logsumexp(np.asarray(logits, np.float64) / temperature, axis=1)


def p_values(held_out: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute p-values of scores, float64 [N], among held-out ones, [n].

    They are (1 + #{i : s_i >= s}) / (n + 1). Larger scores are more unusual.
    """
    return (1 + at_least(held_out, scores)) / (len(held_out) + 1)


def references(number: int) -> np.ndarray:
    """Return the indices of at most `REFERENCES` of `number` images, a fixed random choice."""
    if number <= REFERENCES:
        return np.arange(number)
    return np.sort(np.random.default_rng(0).choice(number, REFERENCES, replace=False))


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """Reference images for distances in feature space.

    The score of an image is the Euclidean distance of its features, scaled to length 1, to the
    `k`-th nearest of the others (Sun et al., ICML 2022). It needs neither labels nor a separate
    held-out set: the new image is added to the references, each image has its k-th neighbour among
    all, and the p-value is the fraction whose distance is at least that of the new image (full
    conformal prediction). This is exact if the network that computes the features was not trained
    on the references.

    Attributes:
      features: float16 [n, d], n > k, of length 1 each.
      k: the rank of the neighbour.
    """

    features: np.ndarray
    k: int = NEIGHBOURS

    @classmethod
    def of(cls, features: np.ndarray, k: int = NEIGHBOURS) -> "Neighbours":
        """Make references from features [n, d] of any length, drawing at most `REFERENCES` of them.

        Raises UserError unless there are more than k.
        """
        found = _directions(features)
        found = found[references(len(found))]
        require(k >= 1, "Neighbours: k", "1 or more", k)
        if len(found) <= k:
            raise UserError(f"Neighbours: expected more than {k} images, received {len(found)}")
        return cls(found, k)

    def p_values(self, features: np.ndarray) -> np.ndarray:
        """Compute the p-values of new images, float64 [N], independently; features [N, d].

        Raises:
          UserError: features of another length, or non-finite features.
        """
        new = _directions(features)
        if new.shape[1] != self.features.shape[1]:
            raise UserError(
                f"outliers: expected features of {self.features.shape[1]:,} numbers, received "
                f"{new.shape[1]:,}"
            )
        squares_Nn = _squares(new, self.features)
        inner_n, outer_n = self._own
        score_N1 = np.partition(squares_Nn, self.k - 1, axis=1)[:, self.k - 1, None]
        # With the new image added, the k-th neighbour of a reference is its former k-th one, the
        # new image or, if the new image is nearer still, its former (k-1)-th.
        changed_Nn = np.clip(squares_Nn, inner_n, outer_n)
        return (1 + (changed_Nn >= score_N1).sum(1)) / (len(self.features) + 1)

    @cached_property
    def _own(self) -> tuple[np.ndarray, np.ndarray]:
        """The squared distances of each image to its (k-1)-th and k-th neighbour, [n] each."""
        squares_nn = _squares(self.features, self.features)
        np.fill_diagonal(squares_nn, -1.0)  # an image comes first and is no neighbour of itself
        ordered = np.sort(squares_nn, axis=1)
        inner = ordered[:, self.k - 1] if self.k > 1 else np.zeros(len(ordered))
        return inner, ordered[:, self.k]


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compute squared distances of rows, [N, n], independently of the order of the two rows."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    products = one @ other.T
    found = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * products
    return np.maximum(np.round(found, 9), 0)  # BLAS does not fix the order of summation


def _directions(features: np.ndarray) -> np.ndarray:
    """Scale features to length 1, as float16 [N, d], for new images and references alike."""
    found = np.asarray(features, np.float64)
    if found.ndim != 2 or not np.isfinite(found).all():
        raise UserError(
            f"outliers: expected finite features [N, d], received an array of shape {found.shape}"
        )
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.where(lengths > 0, lengths, 1)).astype(np.float16)
