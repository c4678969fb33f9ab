"""Forecast of the run time: steps of every shape are timed on this machine and extrapolated."""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from rtl_jax.lab.finetune.job import Inputs, assemble, load_inputs
from rtl_jax.lab.sweep.grid import Cell
from rtl_jax.lab.sweep.measure import measure


class BatchPlan(NamedTuple):
    """How training images are batched: their number per run, the batch size, and smaller sizes."""

    num_images: int
    batch_size: int
    smaller: tuple[int, ...]


def batches(least: int, most: int, classes: int) -> BatchPlan:
    """Plan full batches, of at most `most` images, for runs on at least `least` images.

    New shapes are compiled anew, which takes longer than training. So all folds train on the same
    number of images, slightly fewer than there are, and an eighth, a quarter and a half of it, for
    the learning curve, are full batches too.
    """
    pieces = next((each for each in (8, 4, 2) if least // each >= 8), 1)
    number = pieces * math.ceil(least / (pieces * most))
    size = least // number
    total = number * size
    smaller = [total * share // pieces for share in (1, 2, 4) if share < pieces]
    return BatchPlan(total, size, tuple(each for each in smaller if each >= classes))


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Seconds of the comparison, of compilation, and of the learning curve and the final network
    for the most expensive candidate."""

    comparison: float
    curve: float
    final: float
    compilation: float

    def describe(self) -> str:
        """Describe the stages and how long they take."""
        total = self.comparison + self.curve + self.final + self.compilation
        minutes = max(round(total / 60), 1)
        return (
            f"this takes about {minutes} minute{'' if minutes == 1 else 's'} here: "
            f"{self.comparison:.0f} s to compare, up to {self.curve:.0f} s for the learning curve, "
            f"up to {self.final:.0f} s for the final network (timed steps, extrapolated), and "
            f"{self.compilation:.0f} s to compile"
        )


def forecast(cells: Sequence[Cell], smaller: Sequence[int]) -> Forecast:
    """Forecast the cells' run time from a timed step of each program; UserError as `load_inputs`.

    A head that is solved for counts only with its evaluation. Most of the time that this takes is
    compilation, which the work itself repeats about once.
    """
    started = time.monotonic()
    pairs: dict[str, Inputs] = {}
    comparison: dict[tuple, float] = {}
    curve, final = [0.0], [0.0]
    for cell in cells:
        one = cell.experiment
        kind = one.source.checkpoint, one.transfer.blocks
        if one.source.checkpoint not in pairs:
            pairs[one.source.checkpoint] = load_inputs(one)
        job = assemble(one, pairs[one.source.checkpoint])
        images, tested = len(job.train_indices), len(job.test_indices)
        step, every = measure(job.program, 1), len(job.dataset.train)
        run = step.run(job.program, images, tested)
        once = 2 * every * step.prefix  # as training and as test images
        comparison[kind] = comparison.get(kind, once) + len(cell.seeds) * run
        if smaller:
            folds = one.target.folds or 1
            curve.append(once + folds * len(cell.seeds) * run * sum(smaller) / images)
        final.append(once + run * every / images)
    whole = sum(comparison.values())
    return Forecast(whole, max(curve), max(final), time.monotonic() - started)
