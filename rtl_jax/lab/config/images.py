"""Settings of the way from a folder of photographs to predictions."""

import dataclasses

from rtl_jax.conformal.sets import Kind
from rtl_jax.errors import require, require_choice
from rtl_jax.runtime import limits


@dataclasses.dataclass(frozen=True)
class MyImages:
    """From a folder of photographs to a trained network. `sweep` sets what is compared."""

    # Points of balanced accuracy by which a simpler candidate (fewer blocks, an earlier source) may
    # be behind the best one and still be taken.
    margin: float = 1.0
    robustness: bool = False  # also attack held-out images, as the group `attack` says
    num_shown: int = 24  # images in a picture of the page
    # How prediction sets are made: 'lac', the smallest on average; 'aps', larger for difficult
    # images; 'raps', the same with a penalty for long tails.
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
    """What `source.checkpoint` says of pictures without labels."""

    # A folder, a pattern such as 'photos/*.jpg', or a .txt file with a path on each line.
    images: str = ""
    output: str = ""  # a .csv or .parquet file; empty: WORKDIR/predictions.csv
    top: int = 5  # classes named for each picture, the most probable first
    batch_size: int = 64  # pictures predicted at once
    explain: int = 0  # training images named that speak most for each prediction
    # The probability that the set of classes named for a picture holds the true one; none: no sets.
    coverage: float | None = 0.9
    coverage_by_class: bool = False  # cover the pictures of each class, not on average over all
    outliers: bool = True  # p-values of pictures being of the training data's kind

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
