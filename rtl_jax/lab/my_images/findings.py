"""All that the page tells: what was looked over, compared, chosen and measured."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rtl_jax.lab.config import Experiment
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.lab.my_images.survey import Survey
from rtl_jax.lab.predict.calibration import Calibration
from rtl_jax.lab.report.learning_curve import LearningCurve
from rtl_jax.lab.statistics import wilson_interval
from rtl_jax.runtime.paths import printable


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A percentage with its 95 % interval (Wilson's) and the number of images behind it."""

    percent: float
    low: float
    high: float
    images: int

    @classmethod
    def of(cls, hits: np.ndarray) -> "Accuracy":
        """Of hits in [0, 1], [N], one image or more."""
        return cls.counted(float(hits.sum()), len(hits))

    @classmethod
    def counted(cls, right: float, images: int) -> "Accuracy":
        """From the number of correct images among all, one or more."""
        percent = 100 * right / images
        return cls(percent, *wilson_interval(percent, images), images)

    def with_more(self, curve: LearningCurve | None, size: int) -> "Accuracy":
        """Of networks trained on `size` images rather than the learning curve's last size.

        That is a share of a doubling, in logarithms, and brings that share of what a doubling
        would. Both uncertainties are added in squares. Without a curve nothing is known of it.
        """
        if curve is None:
            return self
        share = math.log2(size / curve.size)
        percent, spread = self.percent + share * curve.gain, share * curve.half
        low = percent - math.hypot(self.percent - self.low, spread)
        high = percent + math.hypot(self.high - self.percent, spread)
        return Accuracy(min(max(percent, 0), 100), max(low, 0), min(high, 100), self.images)

    def __str__(self) -> str:
        return f"{self.percent:.1f} % (95 %: {self.low:.1f} to {self.high:.1f})"


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What one run of the task has found.

    `held_out` is the accuracy on held-out images, with the choice repeated without them; `accuracy`
    what it makes one expect of the final network, which has more to train on; `tested` that on
    test/, where there is one. `settings` are those of the choice; `suspects` is suspects.csv;
    `robustness`, by radius, is of held-out images.
    """

    survey: Survey
    settings: Experiment
    class_names: Sequence[str]
    files: Sequence[Path]  # of the training images, in their order
    candidates: Sequence[HeldOut]
    chosen: HeldOut
    held_out: Accuracy
    accuracy: Accuracy
    tested: Accuracy | None
    calibration: Calibration
    curve: LearningCurve | None
    suspects: pd.DataFrame
    suspects_picture: Path
    wrong_picture: Path | None  # None: there is no mistake
    robustness: Mapping[float, Accuracy] | None
    network: Path

    @property
    def size(self) -> int:
        """Training images of all."""
        return len(self.files)

    def short(self, file: Path | str) -> str:
        """A file's path from the folder that was looked over."""
        return printable(os.path.relpath(file, self.survey.path))
