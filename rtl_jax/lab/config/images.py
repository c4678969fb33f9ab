"""Settings of the way from a folder of photographs to predictions."""

import dataclasses

from rtl_jax.errors import require
from rtl_jax.runtime import limits


@dataclasses.dataclass(frozen=True)
class MyImages:
    """From a folder of photographs to a network in use. What is compared is `sweep`'s."""

    # Points of balanced accuracy by which a simpler candidate (fewer blocks, an earlier source) may
    # be behind the best one and still be taken.
    margin: float = 1.0
    robustness: bool = False  # also attack held-out images, as the group `attack` says
    num_shown: int = 24  # images in a picture of the page

    def __post_init__(self) -> None:
        good = 0 <= self.margin < float("inf")
        require(good, "my_images.margin", "0 or more", self.margin)
        good = self.num_shown > 0
        require(good, "my_images.num_shown", "a positive number", self.num_shown)
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

    def __post_init__(self) -> None:
        for name in ("top", "batch_size"):
            value = getattr(self, name)
            require(value > 0, f"predict.{name}", "a positive number", value)
        require(self.explain >= 0, "predict.explain", "0 or more", self.explain)
        limits.require_within(
            self,
            "predict",
            top=limits.CLASSES,
            batch_size=limits.BATCH_SIZE,
            explain=limits.SHOWN,
        )
