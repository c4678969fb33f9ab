"""Prediction sets: sets of classes that contain the true one with a given probability.

N new images, n held-out ones, C classes, coverage 1 - alpha. A score s(x, y) measures how poorly a
class y fits an image x. The set of x contains all classes except those whose score is among the
largest alpha of the scores of the held-out images' true classes:

    {y : #{i : s(x_i, y_i) >= s(x, y)} >= floor(alpha (n + 1))},

which is {y : s(x, y) <= q} with q the ceil((1 - alpha)(n + 1))-th smallest of those scores, and all
classes if n is smaller than that. It contains the true class of a new image, exchangeable with the
held-out ones, with a probability of at least 1 - alpha, on average over held-out and new images
(split conformal prediction). Sets by class compare y only with the held-out images of class y, so
that the guarantee holds for the images of each class (Mondrian; Vovk, ACML 2012).
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import numpy as np

from rtl_jax.errors import UserError, require, require_choice, require_whole

Kind = Literal["lac", "aps", "raps"]


@dataclasses.dataclass(frozen=True)
class Score:
    """A measure of how poorly a class fits an image, given the class probabilities.

    With rho the total probability of all classes more probable than y, p that of y, o the rank of y
    (1 for the most probable class), and u uniform in [0, 1]:

    - 'lac': 1 - p. The smallest sets on average (Sadinle, Lei and Wasserman, JASA 2019).
    - 'aps': rho + u p. Larger sets for difficult images, so that these are covered, too (Romano,
      Sesia and Candes, NeurIPS 2020).
    - 'raps': rho + u p + penalty max(0, o - free), which avoids the long tails of 'aps'
      (Angelopoulos, Bates, Malik and Jordan, ICLR 2021).

    Attributes:
      kind: one of these.
      penalty: lambda of 'raps'.
      free: k_reg of 'raps', the number of classes without a penalty.
      randomised: whether u is drawn for each image, as published; otherwise it is 1, and sets are
        larger than necessary. 'lac' has no u.
    """

    kind: Kind = "lac"
    penalty: float = 0.1
    free: int = 1
    randomised: bool = True

    def __post_init__(self) -> None:
        require_choice(self.kind, Kind, "Score: kind")
        object.__setattr__(self, "penalty", float(self.penalty))  # of NumPy's types, for JSON
        good = 0 <= self.penalty < math.inf
        require(good, "Score: penalty", "0 or more", self.penalty)
        object.__setattr__(self, "free", require_whole(self.free, "Score: free", 0))

    @property
    def draws(self) -> bool:
        """Whether the score needs a uniform number for each image."""
        return self.randomised and self.kind != "lac"

    def of(self, probabilities: np.ndarray, uniforms: np.ndarray | None = None) -> np.ndarray:
        """Compute the scores of all classes, float64 [N, C].

        Args:
          probabilities: [N, C]; ties are ranked by class index, the lower one first.
          uniforms: [N] in [0, 1], for a randomised score.

        Raises:
          UserError: `uniforms` are missing, or shapes do not match.
        """
        p_NC = _probabilities(probabilities)
        if self.kind == "lac":
            return 1 - p_NC
        u_N1 = np.ones((len(p_NC), 1))
        if self.draws:
            found = np.shape(uniforms) if uniforms is not None else "none"
            wanted = f"a uniform number for each of {len(p_NC):,} images, or randomised=False"
            if found != (len(p_NC),):
                raise UserError(f"Score {self.kind}: expected {wanted}, received {found}")
            u_N1 = np.asarray(uniforms, np.float64)[:, None]
        order_NC = np.argsort(-p_NC, axis=1, kind="stable")
        sorted_NC = np.take_along_axis(p_NC, order_NC, axis=1)
        scores_NC = np.cumsum(sorted_NC, axis=1) - (1 - u_N1) * sorted_NC
        if self.kind == "raps":
            ranks_C = np.arange(1, p_NC.shape[1] + 1)
            scores_NC = scores_NC + self.penalty * np.maximum(ranks_C - self.free, 0)
        found_NC = np.empty_like(scores_NC)
        np.put_along_axis(found_NC, order_NC, scores_NC, axis=1)
        return found_NC


@dataclasses.dataclass(frozen=True, eq=False)
class Conformal:
    """Held-out images: scores of their true classes, float64 [n], and these classes, int [n]."""

    score: Score
    scores: np.ndarray
    labels: np.ndarray

    @classmethod
    def fit(
        cls,
        probabilities: np.ndarray,
        labels: np.ndarray,
        score: Score = Score(),
        uniforms: np.ndarray | None = None,
    ) -> "Conformal":
        """Score held-out images.

        Args:
          probabilities: [n, C], from a network that was not trained on these images.
          labels: int [n].
          score: the score to use.
          uniforms: [n] in [0, 1], for a randomised score.

        Raises:
          UserError: shapes do not match, or `uniforms` are missing.
        """
        every, labels = score.of(probabilities, uniforms), np.asarray(labels)
        whole = np.issubdtype(labels.dtype, np.integer)
        if (
            not whole
            or labels.shape != (len(every),)
            or not ((labels >= 0) & (labels < every.shape[1])).all()
        ):
            raise UserError(
                f"prediction sets: expected a class from 0 to {every.shape[1] - 1} for each of "
                f"{len(every):,} images, received labels of shape {labels.shape}, "
                f"{labels.dtype}"
            )
        return cls(score, every[np.arange(len(labels)), labels], labels)

    def sets(
        self,
        probabilities: np.ndarray,
        coverage: float,
        *,
        by_class: bool = False,
        uniforms: np.ndarray | None = None,
        nonempty: bool = False,
    ) -> np.ndarray:
        """Compute the prediction sets of images, bool [N, C].

        Args:
          probabilities: [N, C], from the network that scored the held-out images.
          coverage: 1 - alpha, between 0 and 1: the probability that a set contains the true class.
            Sets contain all classes if there are fewer than coverage / (1 - coverage) held-out
            images, with `by_class` for each class.
          by_class: whether to guarantee the coverage for the images of each class.
          uniforms: [N] in [0, 1], for a randomised score; independent of the held-out ones.
          nonempty: add the most probable class, since sets may be empty otherwise.

        Raises:
          UserError: a coverage of 1 or outside its range, or shapes that do not match.
        """
        every = np.asarray(probabilities)[None]
        return cross_sets(
            [self], every, coverage, by_class=by_class, uniforms=uniforms, nonempty=nonempty
        )


def cross_sets(
    folds: Sequence[Conformal],
    probabilities: np.ndarray,
    coverage: float,
    *,
    by_class: bool = False,
    uniforms: np.ndarray | None = None,
    nonempty: bool = False,
) -> np.ndarray:
    """Compute the prediction sets of cross-conformal prediction (CV+), bool [N, C].

    Each of K networks was trained without one fold. The scores of this fold's images are compared
    with those that the network gives to the new images, and the counts are summed over folds (Vovk,
    2015). A set contains the true class with a probability of at least 1 - 2 alpha - min(2 (1 -
    1/K) / (n/K + 1), (1 - K/n) / (K + 1)) (Romano et al., 2020, theorem 3), and usually of about 1
    - alpha. With a single fold, this is `Conformal.sets`.

    Args:
      folds: the scores of each fold's images, from the network trained without it.
      probabilities: [K, N, C] of new images, from the same networks.
      coverage: 1 - alpha.
      by_class: as for `Conformal.sets`, like the following.
      uniforms: [N], the same for all networks.
      nonempty: add the class that is most probable on average.

    Raises:
      UserError: as `Conformal.sets`.
    """
    alpha = 1 - _exact(coverage, "coverage")
    p_KNC = np.asarray(probabilities, np.float64)
    if p_KNC.ndim != 3 or len(p_KNC) != len(folds) or not len(folds):
        raise UserError(
            f"cross_sets: expected probabilities [K, N, C] of {len(folds)} folds' networks, "
            f"received {p_KNC.shape}"
        )
    classes = p_KNC.shape[2]
    counted_NC = np.zeros(p_KNC.shape[1:], np.int64)
    total_C = np.zeros(classes, np.int64)
    for fold, p_NC in zip(folds, p_KNC, strict=True):
        scores_NC = fold.score.of(p_NC, uniforms)
        if not by_class:
            counted_NC += at_least(fold.scores, scores_NC)
            total_C += len(fold.scores)
            continue
        for label in range(classes):
            own = fold.scores[fold.labels == label]
            counted_NC[:, label] += at_least(own, scores_NC[:, label])
            total_C[label] += len(own)
    found_NC = counted_NC >= [math.floor(alpha * (int(total) + 1)) for total in total_C]
    if nonempty:
        found_NC[np.arange(len(found_NC)), p_KNC.mean(0).argmax(1)] = True
    return found_NC


def at_least(held_out: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Count the held-out scores [n] that are at least each of `scores`, int of their shape."""
    return len(held_out) - np.searchsorted(np.sort(held_out), scores, side="left")


def _exact(share: float, name: str) -> Fraction:
    """Return the exact decimal number: in floats, 0.07 * 100 is more than 7 and its ceil is 8."""
    good = isinstance(share, int | float | np.floating) and 0 < share < 1
    expected = "a number between 0 and 1 (1 itself takes sets of all classes)"
    require(good, name, expected, share)
    return Fraction(repr(float(share)))


def _probabilities(values: np.ndarray) -> np.ndarray:
    """Check shape and range, since scores of non-finite probabilities are meaningless."""
    found = np.asarray(values, np.float64)
    if found.ndim != 2 or not found.shape[1] or not ((found >= 0) & (found <= 1)).all():
        raise UserError(
            "prediction sets: expected probabilities [N, C] between 0 and 1, received "
            f"{'other values' if found.ndim == 2 else f'an array of shape {found.shape}'}"
        )
    return found
