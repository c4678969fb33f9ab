"""Hours of the paper's Table 4: the runs of its grid times the measured cost per image."""

from collections.abc import Callable, Sequence

from benchmarks.programs import Case, Programs
from rtl_jax.configs.paper.table7 import BLOCKS, NUM_IMAGES, SOURCES, TARGETS
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.lab.config import Experiment, Sweep
from rtl_jax.lab.sweep.estimate import Costs
from rtl_jax.lab.sweep.grid import cells
from rtl_jax.lab.sweep.plan import KNOWN
from rtl_jax.train.recipe import Recipe

# 'source' trains on features, without augmentation and with seeds in parallel. 'paper' follows the
# paper: train mode and fresh augmentation of images, where seeds have no work to share.
MODES = ("source", "paper")
SEEDS = 8


def experiment(mode: str) -> Experiment:
    """Return the settings of the whole grid with Table 4's numbers of seeds."""
    source = mode == "source"
    return Experiment(
        task="sweep",
        augmentation=PRESETS["none" if source else "paper"],
        transfer=Recipe(frozen_batch_norm="source" if source else "batch", precision="bfloat16"),
        sweep=Sweep(
            sources=SOURCES,
            targets=TARGETS,
            blocks=BLOCKS,
            num_images=NUM_IMAGES,
            seeds_by="table4",
        ),
    )


def needed(
    programs: Programs, mode: str, every: Sequence[int] = BLOCKS
) -> dict[int, tuple[Case, Case, Case | None]]:
    """Return, by number of blocks, the programs of a step, a test and, if cached, the features."""
    if mode == "source":
        return {
            blocks: (
                programs.training(blocks, SEEDS),
                programs.evaluation(blocks, SEEDS),
                programs.features(blocks),
            )
            for blocks in every
        }
    test = programs.evaluation(0, 1, mode="batch")  # the whole network, for any number of blocks
    return {blocks: (programs.paper(blocks), test, None) for blocks in every}


def hours(
    programs: Programs,
    mode: str,
    an_image: Callable[[Case], float],
    every: Sequence[int] = BLOCKS,
) -> dict[int, float]:
    """Compute the grid's hours by number of blocks.

    `an_image` gives the seconds per image of a program, for a single seed.
    """
    costs = {
        blocks: Costs(*(an_image(case) if case is not None else 0.0 for case in cases))
        for blocks, cases in needed(programs, mode, every).items()
    }
    total = dict.fromkeys(every, 0.0)
    for cell in cells(experiment(mode)):
        recipe, sizes = cell.experiment.transfer, KNOWN[cell.experiment.target.dataset]
        if recipe.blocks not in costs:
            continue
        number, cost = cell.num_images or sizes.train, costs[recipe.blocks]
        epochs = recipe.epochs_for(number)
        looks = len(recipe.eval_epochs(epochs))
        runs = len(cell.seeds)
        seconds = runs * (number * epochs * cost.train + looks * sizes.test * cost.test)
        # Features are computed once per image drawn by any of the cell's seeds, at most all of
        # them.
        seconds += (min(runs * number, sizes.train) + sizes.test) * cost.prefix
        total[recipe.blocks] += seconds / 3600
    return total


def counted() -> tuple[int, float]:
    """Count the runs of the grid, and their training images times epochs."""
    runs, images = 0, 0.0
    for cell in cells(experiment("source")):
        number = cell.num_images or KNOWN[cell.experiment.target.dataset].train
        runs += len(cell.seeds)
        images += len(cell.seeds) * number * cell.experiment.transfer.epochs_for(number)
    return runs, images
