"""Settings of the tasks `my_images` and `predict`."""

import dataclasses

from rtl_jax.conformal.sets import Kind
from rtl_jax.errors import require, require_choice
from rtl_jax.runtime import limits


@dataclasses.dataclass(frozen=True)
class MyImages:
    """From a folder of labelled images to a trained network. `sweep` sets what is compared."""

    # Points of balanced accuracy that a simpler candidate (fewer blocks, an earlier source) may be
    # behind the best one and still be selected
    margin: float = 1.0
    robustness: bool = False  # Also attack held-out images, with the settings of `attack`
    num_shown: int = 24  # Images in a figure of the page
    # Score of prediction sets: 'lac' gives the smallest sets on average, 'aps' larger ones for
    # difficult images, 'raps' the same with a penalty on long tails
    set_score: Kind = "lac"

    def __post_init__(self) -> None:
        good = 0 <= self.margin < float("inf")
        require(good, "my_images.margin", "0 or more", self.margin)
        good = self.num_shown > 0
        require(good, "my_images.num_shown", "a positive number", self.num_shown)
        require_choice(self.set_score, Kind, "my_images.set_score")
        limits.require_within(self, "my_images", num_shown=limits.SHOWN)


@dataclasses.dataclass(frozen=True)
class Predict:
    """Predict the classes of unlabelled images with `source.checkpoint`."""

    # A folder, a pattern such as 'photos/*.jpg', a .txt file with one path per line, or an image
    images: str = ""
    output: str = ""  # The .csv or .parquet file to write; empty: WORKDIR/predictions.csv
    top: int = 5  # Number of classes to name for each image, the most probable first
    batch_size: int = 64  # Images predicted at once
    explain: int = 0  # Number of training images to name that most support each prediction
    # Probability that the prediction set of an image contains the true class; none: no sets
    coverage: float | None = 0.9
    coverage_by_class: bool = False  # Guarantee the coverage for each class instead of on average
    # Compute p-values of the hypothesis that an image is like the training images
    outliers: bool = True

    def __post_init__(self) -> None:
        for name in ("top", "batch_size"):
            value = getattr(self, name)
            require(value > 0, f"predict.{name}", "a positive number", value)
        require(self.explain >= 0, "predict.explain", "0 or more", self.explain)
        good = self.coverage is None or 0 < self.coverage < 1
        require(good, "predict.coverage", "a number between 0 and 1, or none", self.coverage)
        limits.require_within(
            self,
            "predict",
            top=limits.CLASSES,
            batch_size=limits.BATCH_SIZE,
            explain=limits.SHOWN,
        )
