"""Settings of a sweep."""

import dataclasses
import math
import typing
from typing import Literal

from rtl_jax.errors import require, require_choice
from rtl_jax.runtime import limits
from rtl_jax.train.recipe import HeadFit

# The settings of a training that vary beside one another, by the axis that lists their values.
NUMBERS = {
    "learning_rates": "learning_rate",
    "weight_decays": "weight_decay",
    "eps": "eps",
    "betas": "beta",
}
NAMES = {"head_fits": "head_fit"}
AXES = ("sources", "targets", "blocks", *NUMBERS, *NAMES)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A grid of fine-tunings: all combinations of what these name, each with many seeds.

    What is empty has one value, that of `source`, `target` or `transfer`.
    """

    sources: tuple[str, ...] = ()  # Values of source.checkpoint
    targets: tuple[str, ...] = ()  # Values of target.dataset
    blocks: tuple[int, ...] = ()  # Values of transfer.blocks
    num_images: tuple[int, ...] = ()  # Values of target.num_images; 0: all images
    epochs: tuple[int, ...] = ()  # Values of transfer.epochs, one for each of num_images
    folds: tuple[int, ...] = ()  # Values of target.fold
    # Values of transfer.learning_rate, which train side by side in one program, like seeds
    learning_rates: tuple[float, ...] = ()
    weight_decays: tuple[float, ...] = ()  # Values of transfer.weight_decay, side by side
    eps: tuple[float, ...] = ()  # Values of transfer.eps, side by side
    betas: tuple[float, ...] = ()  # Values of transfer.beta, side by side
    head_fits: tuple[str, ...] = ()  # Values of transfer.head_fit
    # Number of seeds of each cell: `seed`, `seed` + 100000, and so on; none: the paper's number for
    # the size
    seeds: int | None = None
    # Where the paper's number comes from: its text (20 up to 1,600 images, 10 above) or its Table 4
    # (20, 10, 5 and 1)
    seeds_by: Literal["text", "table4"] = "text"
    # Seeds that train in one program; none: as many as fit in an accelerator's memory; on a CPU one
    # for each device, or with the head only as many as are estimated to fit
    seeds_at_once: int | None = None
    # Continue without missing sources and targets, naming them, instead of stopping with an error
    skip_missing: bool = False
    measure: bool = False  # In a dry run, time a step of every shape
    # Keep the fine-tuned networks (0.9 TB for the paper's grid at 3 blocks)
    keep_networks: bool = False
    keep_logits: bool = False  # Keep the test logits after the last epoch, in WORKDIR/runs/RUN
    # Keep the test logits after every evaluation, in the same place
    keep_every_logits: bool = False

    def __post_init__(self) -> None:
        require_choice(self.seeds_by, Literal["text", "table4"], "sweep.seeds_by")
        for name in ("blocks", "num_images", "folds"):
            values = getattr(self, name)
            good = all(value >= 0 for value in values)
            require(good, f"sweep.{name}", "whole numbers of 0 or more", values)
        for name in ("learning_rates", "weight_decays", "eps", "betas"):
            values = getattr(self, name)
            low = 0 if name != "learning_rates" else math.nextafter(0, 1)
            good = all(low <= value < float("inf") for value in values)
            words = "positive numbers" if low else "numbers of 0 or more"
            require(good, f"sweep.{name}", words, values)
        for name in (*AXES, "num_images", "folds"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"sweep.{name}", "different values", values)
        kinds = typing.get_args(HeadFit)
        good = set(self.head_fits) <= set(kinds)
        require(good, "sweep.head_fits", f"some of {', '.join(kinds)}", self.head_fits)
        for name in ("sources", "targets"):
            require(all(getattr(self, name)), f"sweep.{name}", "names", getattr(self, name))
        fitting = not self.epochs or len(self.epochs) == len(self.num_images)
        expected = f"one for each of sweep.num_images, that is {len(self.num_images)}, or none"
        require(fitting, "sweep.epochs", expected, self.epochs)
        good = all(value > 0 for value in self.epochs)
        require(good, "sweep.epochs", "positive numbers", self.epochs)
        for name in ("seeds", "seeds_at_once"):
            value = getattr(self, name)
            require(value is None or value > 0, f"sweep.{name}", "a positive number", value)
        limits.require_within(
            self,
            "sweep",
            blocks=limits.BLOCKS,
            num_images=limits.IMAGES,
            epochs=limits.EPOCHS,
            folds=limits.FOLDS,
            seeds=limits.SEEDS,
            seeds_at_once=limits.SEEDS,
        )
        axes = (getattr(self, name) for name in (*AXES, "num_images", "folds"))
        runs = math.prod(max(1, len(axis)) for axis in axes) * (self.seeds or 1)
        expected = f"a grid of at most {limits.RUNS:,} runs"
        require(runs <= limits.RUNS, "sweep.seeds", expected, runs)

    def side_by_side(self, num_images: int | None) -> int:
        """Runs of one size that can train in one program: all seeds at all rates, radii, ..."""
        size = self.num_images[0] or None if self.num_images else num_images
        values = (len(getattr(self, axis)) for axis in NUMBERS)
        return self.seeds_for(size) * math.prod(max(1, number) for number in values)

    def seeds_for(self, num_images: int | None) -> int:
        """Seeds of a cell with this many training images; None: all of a data set."""
        if self.seeds is not None:
            return self.seeds
        size = float("inf") if num_images is None else num_images
        if self.seeds_by == "text":
            return 20 if size <= 1600 else 10
        tops = ((1600, 20), (6400, 10), (25600, 5))
        return next((seeds for top, seeds in tops if size <= top), 1)
