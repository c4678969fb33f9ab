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

    sources: tuple[str, ...] = ()  # values of source.checkpoint
    targets: tuple[str, ...] = ()  # values of target.dataset
    blocks: tuple[int, ...] = ()  # values of transfer.blocks
    num_images: tuple[int, ...] = ()  # values of target.num_images; 0: all
    epochs: tuple[int, ...] = ()  # transfer.epochs for each of num_images in turn
    folds: tuple[int, ...] = ()  # values of target.fold
    # Values of transfer.learning_rate; like seeds, they train side by side in one program.
    learning_rates: tuple[float, ...] = ()
    weight_decays: tuple[float, ...] = ()  # values of transfer.weight_decay, side by side too
    eps: tuple[float, ...] = ()  # values of transfer.eps, side by side too
    betas: tuple[float, ...] = ()  # values of transfer.beta, side by side too
    head_fits: tuple[str, ...] = ()  # values of transfer.head_fit
    # Seeds of each cell: `seed`, `seed` + 100000, and so on. None: the paper's numbers by size.
    seeds: int | None = None
    # The paper's numbers of seeds: those of its text (20 up to 1,600 images, 10 above) or of its
    # Table 4 (20, 10, 5 and 1).
    seeds_by: Literal["text", "table4"] = "text"
    seeds_at_once: int | None = None  # in one program; none: as many as memory is estimated to take
    # Go on without the sources and targets that are not there, naming them, where the sweep would
    # end with an error.
    skip_missing: bool = False
    measure: bool = False  # a dry run times a step of every shape
    keep_networks: bool = False  # the fine-tuned ones: at 3 blocks the paper's grid has 0.9 TB
    keep_logits: bool = False  # of the test images after the last epoch, WORKDIR/runs/RUN
    keep_every_logits: bool = False  # there too, those after every evaluation

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

    def seeds_for(self, num_images: int | None) -> int:
        """Seeds of a cell with this many training images; None: all of a data set."""
        if self.seeds is not None:
            return self.seeds
        size = float("inf") if num_images is None else num_images
        if self.seeds_by == "text":
            return 20 if size <= 1600 else 10
        tops = ((1600, 20), (6400, 10), (25600, 5))
        return next((seeds for top, seeds in tops if size <= top), 1)
