"""Images that are not of the training data's kind: two scores, and p-values for them.

A p-value is the share of held-out images, the new one counted among them, that are at least as
foreign. Of images of the same kind, at most 5 % have a p-value of 0.05 or less, and so on for any
share: flagging those is wrong for at most that share of them.
"""

import dataclasses
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from rtl_jax.conformal.sets import at_least
from rtl_jax.errors import UserError, require

REFERENCES = 1000  # images that distances are measured to: more are a random part of themselves
NEIGHBOURS = 5


def energy(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The energy of images, -T log sum_c exp(f_c / T), float64 [N], of logits [N, C]; larger for
    what the network has not learnt (Liu et al., NeurIPS 2020, equation 3)."""
    return -temperature * logsumexp(np.asarray(logits, np.float64) / temperature, axis=1)


def p_values(held_out: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The p-values of scores, float64 [N], among held-out ones, [n]: (1 + #{i : s_i >= s}) /
    (n + 1). Larger scores are more foreign."""
    return (1 + at_least(held_out, scores)) / (len(held_out) + 1)


def references(number: int) -> np.ndarray:
    """Which of `number` images distances are measured to: at most `REFERENCES`, drawn once."""
    if number <= REFERENCES:
        return np.arange(number)
    return np.sort(np.random.default_rng(0).choice(number, REFERENCES, replace=False))


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """Images that distances in feature space are measured to.

    The score of an image is the Euclidean distance of its features, scaled to length 1, to the
    `k`-th nearest of the others (Sun et al., ICML 2022). It takes neither labels nor a held-out
    half: the new image joins the others, each has its k-th neighbour among all, and the p-value is
    the share that is at least as far from it (full conformal prediction). That is exact where
    features are computed by something that was not trained on these images.

    Attributes:
      features: float16 [n, d], n > k, of length 1 each.
      k: which neighbour.
    """

    features: np.ndarray
    k: int = NEIGHBOURS

    @classmethod
    def of(cls, features: np.ndarray, k: int = NEIGHBOURS) -> "Neighbours":
        """From features [n, d] of any length, at most `REFERENCES` drawn among them.

        Raises UserError unless there are more than k.
        """
        found = _directions(features)
        found = found[references(len(found))]
        require(k >= 1, "Neighbours: k", "1 or more", k)
        if len(found) <= k:
            raise UserError(f"Neighbours: expected more than {k} images, received {len(found)}")
        return cls(found, k)

    def p_values(self, features: np.ndarray) -> np.ndarray:
        """The p-values of new images, float64 [N], each by itself; features [N, d].

        Raises:
          UserError: features of another length, or that are not finite.
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
        # With the new image among them, an image's k-th neighbour is the former one, the new image
        # or, where that is nearer still, the former (k-1)-th.
        changed_Nn = np.clip(squares_Nn, inner_n, outer_n)
        return (1 + (changed_Nn >= score_N1).sum(1)) / (len(self.features) + 1)

    @cached_property
    def _own(self) -> tuple[np.ndarray, np.ndarray]:
        """The squared distances of each image to its (k-1)-th and k-th neighbour, [n] each."""
        squares_nn = _squares(self.features, self.features)
        np.fill_diagonal(squares_nn, -1.0)  # itself comes first, and is no neighbour
        ordered = np.sort(squares_nn, axis=1)
        inner = ordered[:, self.k - 1] if self.k > 1 else np.zeros(len(ordered))
        return inner, ordered[:, self.k]


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared distances of rows, [N, n], the same number for the same two rows in either order."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    products = one @ other.T
    found = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * products
    return np.maximum(np.round(found, 9), 0)  # the order of summation is BLAS's


def _directions(features: np.ndarray) -> np.ndarray:
    """Features scaled to length 1, float16 [N, d], for all alike: new ones and kept ones."""
    found = np.asarray(features, np.float64)
    if found.ndim != 2 or not np.isfinite(found).all():
        raise UserError(
            f"outliers: expected finite features [N, d], received an array of shape {found.shape}"
        )
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return (found / np.where(lengths > 0, lengths, 1)).astype(np.float16)
