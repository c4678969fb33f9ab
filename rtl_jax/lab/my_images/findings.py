"""Everything that the page reports: what was surveyed, compared, chosen and measured."""

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
    """The findings of one run of the task.

    `held_out` was measured on held-out images, with the choice repeated without them; `accuracy` is
    the expectation that follows for the final network, which is trained on more images; `tested`
    was measured on test/, if there is one. `settings` are those of the choice; `suspects` is
    suspects.csv; `cleanings` says what leaving them out would bring; `robustness`, by radius, was
    measured on held-out images.
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
    wrong_picture: Path | None  # None: no misclassified images
    robustness: Mapping[float, Accuracy] | None
    network: Path

    @property
    def verdict(self) -> str | None:
        """A sentence if nothing better than guessing has been shown, else None."""
        return self.held_out.verdict(self.accuracy)

    @property
    def size(self) -> int:
        """The number of all training images."""
        return len(self.files)

    def short(self, file: Path | str) -> str:
        """Return a file's path relative to the surveyed folder."""
        return printable(os.path.relpath(file, self.survey.path))
