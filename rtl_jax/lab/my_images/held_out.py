"""Held-out predictions: every fold of a cross-validation, joined.

N training images, C classes, S seeds. Each image is in one fold, and its logits are those of the
networks that trained on the other folds.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
from etils import epath
from scipy.special import softmax

from rtl_jax.errors import UserError
from rtl_jax.lab.my_images.accuracy import balanced_mean
from rtl_jax.lab.sweep.cells import logits_path


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """One candidate's predictions: labels and folds int [N], logits [S, N, C]."""

    source: str
    blocks: int
    labels: np.ndarray
    folds: np.ndarray
    logits: np.ndarray

    @property
    def name(self) -> str:
        """What a page calls it."""
        return f"{self.source}, {self.blocks} block{'' if self.blocks == 1 else 's'}"

    @property
    def hits(self) -> np.ndarray:
        """The share of seeds that name each image rightly, float [N]."""
        return (self.logits.argmax(-1) == self.labels).mean(0)

    @property
    def accuracy(self) -> float:
        """Percent of the images, over all seeds."""
        return 100 * float(self.hits.mean())

    @property
    def balanced_accuracy(self) -> float:
        """The mean over classes of their accuracies in percent, over all seeds."""
        return 100 * balanced_mean(self.hits, self.labels)

    @property
    def by_fold(self) -> pd.Series:
        """Accuracy in percent of each fold, over all seeds."""
        return 100 * pd.Series(self.hits).groupby(self.folds).mean()

    @property
    def balanced_by_fold(self) -> pd.Series:
        """What each fold adds to balanced accuracy, times the number of folds: their mean is it.

        A fold may lack a class, and then has no balanced accuracy of its own.
        """
        counts = np.bincount(self.labels)
        weights = 100 / (counts[self.labels] * (counts > 0).sum())
        parts = pd.Series(self.hits * weights).groupby(self.folds).sum()
        return len(parts) * parts

    @property
    def pooled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits [S N, C], labels and folds [S N], seed after seed."""
        seeds = len(self.logits)
        every = self.logits.reshape(-1, self.logits.shape[-1])
        return every, np.tile(self.labels, seeds), np.tile(self.folds, seeds)

    def probabilities(self, temperature: float) -> np.ndarray:
        """Of the classes, [N, C], by the first seed's networks."""
        return softmax(np.asarray(self.logits[0], np.float64) / temperature, axis=1)


def gather(rows: pd.DataFrame, workdir: epath.Path) -> list[HeldOut]:
    """The candidates among a sweep's last rows; all have the same images.

    Those with fewer blocks come first, and then sources in the rows' order.

    Raises UserError where the logits of a run are missing or damaged.
    """
    groups = rows.sort_values("blocks", kind="stable").groupby(["source", "blocks"], sort=False)
    return [_gather(str(source), int(blocks), part, workdir) for (source, blocks), part in groups]


def _gather(source: str, blocks: int, rows: pd.DataFrame, workdir: epath.Path) -> HeldOut:
    found = [
        (row.seed, row.fold, *_read(logits_path(workdir, row.run))) for row in rows.itertuples()
    ]
    seeds = sorted({seed for seed, *_ in found})
    size = 1 + max(int(images.max()) for _, _, images, _, _ in found)
    labels, folds = np.zeros(size, np.int64), np.zeros(size, np.int64)
    logits = np.empty((len(seeds), size, found[0][-1].shape[1]), np.float32)
    for seed, fold, images, named, values in found:
        labels[images], folds[images] = named, fold
        logits[seeds.index(seed), images] = values
    return HeldOut(source, blocks, labels, folds, logits)


def _read(path: epath.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["rows"], arrays["labels"], arrays["logits"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(
            f"the held-out logits {path} cannot be read ({error}): remove WORKDIR/rows and "
            "WORKDIR/runs, and run the same command again"
        ) from error


def choose(candidates: Sequence[HeldOut], margin: float) -> HeldOut:
    """The simplest candidate that is at most `margin` points of percent behind the best.

    The best has the greatest balanced accuracy, which cannot be had by guessing as accuracy can
    where one class has most of the images. Simpler is with fewer blocks, and then by a source that
    is named earlier.
    """
    return candidates[_choice(candidates, [each.balanced_accuracy for each in candidates], margin)]


def honest_hits(candidates: Sequence[HeldOut], margin: float) -> np.ndarray:
    """Hits [N] where each fold is told by the candidate that the other folds would have chosen.

    The best of several by their results looks better than it is; here the images that measure
    accuracy have no say in the choice.
    """
    folds, labels = candidates[0].folds, candidates[0].labels
    hits_MN = np.stack([each.hits for each in candidates])
    found = np.empty(hits_MN.shape[1])
    for fold in np.unique(folds):
        inside = folds == fold
        elsewhere = [100 * balanced_mean(hits[~inside], labels[~inside]) for hits in hits_MN]
        found[inside] = hits_MN[_choice(candidates, elsewhere, margin), inside]
    return found


def _choice(candidates: Sequence[HeldOut], accuracies: Sequence[float], margin: float) -> int:
    simplest = sorted(range(len(candidates)), key=lambda index: candidates[index].blocks)
    least = max(accuracies) - margin
    return next(index for index in simplest if accuracies[index] >= least)


def confusion(chosen: HeldOut, classes: int) -> np.ndarray:
    """Int [C, C]: held-out images of each class (rows) that the first seed's networks name so."""
    found = np.zeros((classes, classes), np.int64)
    np.add.at(found, (chosen.labels, chosen.logits[0].argmax(-1)), 1)
    return found


def confidently_wrong(chosen: HeldOut, temperature: float, number: int) -> np.ndarray:
    """The held-out images that are named wrongly, int [K], the surest first."""
    probabilities = chosen.probabilities(temperature)
    wrong = np.flatnonzero(probabilities.argmax(1) != chosen.labels)
    order = np.argsort(-probabilities[wrong].max(1), kind="stable")
    return wrong[order][:number]
