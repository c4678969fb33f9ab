"""Held-out predictions, joined over the folds of a cross-validation.

There are N training images, C classes and S seeds. Each image is in one fold, and its logits are
those of the networks trained on the other folds.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from etils import epath
from scipy.special import softmax

from rtl_jax.errors import UserError
from rtl_jax.lab.my_images.accuracy import balanced_mean
from rtl_jax.lab.sweep.kept import logits_path

# How heads alone are fitted, in the order of candidates that are equal otherwise.
HEADS = ("ridge", "logistic", "sgd")


class Candidate(NamedTuple):
    """A candidate of the comparison: a source, and how it is fine-tuned.

    A head that is solved for and not trained further has no learning rate and no epochs.
    """

    source: str
    blocks: int
    head_fit: str = "sgd"
    learning_rate: float | None = None
    epochs: int = 0

    @property
    def solved(self) -> bool:
        """Whether its head is solved for and nothing is trained."""
        return self.blocks == 0 and self.head_fit != "sgd"

    @property
    def training(self) -> str:
        """A description of how it is trained."""
        if self.solved:
            return f"{self.head_fit} head"
        if self.learning_rate is None:
            return "SGD"
        start = "" if self.head_fit == "sgd" else f" from a {self.head_fit} head"
        plural = "" if self.epochs == 1 else "s"
        return f"SGD at {self.learning_rate:g} for {self.epochs} epoch{plural}{start}"

    def __str__(self) -> str:
        blocks = f"{self.blocks} block{'' if self.blocks == 1 else 's'}"
        return f"{self.source}, {blocks}, {self.training}"


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """One candidate's predictions: labels and folds int [N], logits [S, N, C].

    `spanned` is the length of its learning rate schedule in epochs; it may stop earlier.
    """

    candidate: Candidate
    labels: np.ndarray
    folds: np.ndarray
    logits: np.ndarray
    spanned: int = 0

    @property
    def name(self) -> str:
        """The candidate's name on the page."""
        return str(self.candidate)

    @property
    def source(self) -> str:
        """The source that was fine-tuned."""
        return self.candidate.source

    @property
    def blocks(self) -> int:
        """The number of blocks trained in addition to the head."""
        return self.candidate.blocks

    @property
    def hits(self) -> np.ndarray:
        """The share of seeds that classify each image correctly, float [N]."""
        return (self.logits.argmax(-1) == self.labels).mean(0)

    @property
    def accuracy(self) -> float:
        """Accuracy in percent, over all seeds."""
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
        """Each fold's contribution to balanced accuracy, scaled so that their mean equals it.

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
        """Return the class probabilities, [N, C], of the first seed's networks."""
        return softmax(np.asarray(self.logits[0], np.float64) / temperature, axis=1)


def candidates_of(rows: pd.DataFrame) -> list[Candidate]:
    """Return the candidate that each row of a comparison evaluates."""
    found = []
    columns = ["source", "blocks", "head_fit", "learning_rate", "epoch"]
    for source, blocks, head_fit, rate, epoch in rows[columns].itertuples(index=False):
        one = Candidate(str(source), int(blocks), str(head_fit))
        found.append(one if one.solved else one._replace(learning_rate=rate, epochs=int(epoch)))
    return found


def gather(rows: pd.DataFrame, workdir: epath.Path) -> list[HeldOut]:
    """Gather the candidates from a comparison's last rows; all have the same images.

    Each evaluation during a training is a candidate with that many epochs. Candidates are sorted by
    number of blocks, by source in the rows' order, head, rate and epochs: of equal ones, the first
    is chosen, whatever the runs' names.

    Raises UserError if the logits of a run are missing or damaged.
    """
    ordered = rows.assign(rate=rows["learning_rate"]).sort_values("blocks", kind="stable")
    solved = (ordered["blocks"] == 0) & (ordered["head_fit"] != "sgd")
    ordered.loc[solved, "rate"] = np.nan
    keys = ["source", "blocks", "head_fit", "rate"]
    groups = ordered.groupby(keys, sort=False, dropna=False)
    found = [one for _, part in groups for one in _gather(part, workdir)]
    first = {each.source: index for index, each in reversed(list(enumerate(found)))}

    def place(each: HeldOut) -> tuple:
        one = each.candidate
        rate = one.learning_rate or 0.0
        return one.blocks, first[one.source], HEADS.index(one.head_fit), rate, one.epochs

    return sorted(found, key=place)


def _gather(rows: pd.DataFrame, workdir: epath.Path) -> Iterator[HeldOut]:
    """Yield a candidate for each tested epoch of runs that differ only in seed and fold."""
    last = candidates_of(rows)[0]
    found = [
        (row.seed, row.fold, _read(logits_path(workdir, row.run))) for row in rows.itertuples()
    ]
    seeds = sorted({seed for seed, *_ in found})
    size = 1 + max(int(arrays["rows"].max()) for *_, arrays in found)
    labels, folds = np.zeros(size, np.int64), np.zeros(size, np.int64)
    epochs = found[0][-1]["epochs"].tolist()
    classes = found[0][-1]["logits"].shape[1]
    logits = np.empty((len(epochs), len(seeds), size, classes), np.float32)
    for seed, fold, arrays in found:
        images = arrays["rows"]
        labels[images], folds[images] = arrays["labels"], fold
        logits[:, seeds.index(seed), images] = arrays["logits_by_epoch"]
    for epoch, one in zip(epochs, logits, strict=True):
        candidate = last if last.solved else last._replace(epochs=epoch)
        yield HeldOut(candidate, labels, folds, one, spanned=int(rows["epochs"].iloc[0]))


def _read(path: epath.Path) -> Mapping[str, np.ndarray]:
    names = ("rows", "labels", "logits", "epochs", "logits_by_epoch")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(
            f"the held-out logits {path} cannot be read ({error}): remove WORKDIR/rows and "
            "WORKDIR/runs, and run the same command again"
        ) from error


def confusion(chosen: HeldOut, classes: int) -> np.ndarray:
    """Return the confusion matrix of the first seed's networks on held-out images, int [C, C].

    Rows are true classes, columns predicted ones.
    """
    found = np.zeros((classes, classes), np.int64)
    np.add.at(found, (chosen.labels, chosen.logits[0].argmax(-1)), 1)
    return found


def confidently_wrong(chosen: HeldOut, temperature: float, number: int) -> np.ndarray:
    """Return up to `number` misclassified held-out images, int [K], the most confident first."""
    probabilities = chosen.probabilities(temperature)
    wrong = np.flatnonzero(probabilities.argmax(1) != chosen.labels)
    order = np.argsort(-probabilities[wrong].max(1), kind="stable")
    return wrong[order][:number]
