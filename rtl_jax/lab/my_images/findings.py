"""All that the page tells: what was looked over, compared, chosen and measured."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from rtl_jax.lab.config import Experiment
from rtl_jax.lab.my_images.accuracy import Accuracy, Measurement
from rtl_jax.lab.my_images.cleaning import Cleanings
from rtl_jax.lab.my_images.guarantees import Measured
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.lab.my_images.survey import Survey
from rtl_jax.lab.predict.calibration import Calibration
from rtl_jax.lab.report.learning_curve import LearningCurve
from rtl_jax.runtime.paths import printable


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What one run of the task has found.

    `held_out` was measured on held-out images, with the choice repeated without them; `accuracy` is
    what it makes one expect of the final network, which has more to train on; `tested` was measured
    on test/, where there is one. `settings` are those of the choice; `suspects` is suspects.csv;
    `cleanings` is what leaving them out would bring; `robustness`, by radius, is of held-out
    images.
    """

    survey: Survey
    settings: Experiment
    class_names: Sequence[str]
    files: Sequence[Path]  # of the training images, in their order
    candidates: Sequence[HeldOut]
    chosen: HeldOut
    held_out: Measurement
    accuracy: Accuracy
    tested: Measurement | None
    calibration: Calibration
    sets: Measured
    curve: LearningCurve | None
    suspects: pd.DataFrame
    suspects_picture: Path
    cleanings: Cleanings
    wrong_picture: Path | None  # None: there is no mistake
    robustness: Mapping[float, Accuracy] | None
    network: Path

    @property
    def verdict(self) -> str | None:
        """A sentence where nothing better than guessing has been shown; None where it has."""
        return self.held_out.verdict(self.accuracy)

    @property
    def size(self) -> int:
        """Training images of all."""
        return len(self.files)

    def short(self, file: Path | str) -> str:
        """A file's path from the folder that was looked over."""
        return printable(os.path.relpath(file, self.survey.path))
