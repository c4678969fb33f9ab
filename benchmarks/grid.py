"""The hours of the paper's Table 4: its runs counted, times what an image of each program costs."""

from collections.abc import Callable, Sequence

from benchmarks.programs import Case, Programs
from rtl_jax.configs.paper.table7 import BLOCKS, NUM_IMAGES, SOURCES, TARGETS
from rtl_jax.data.augmentation import PRESETS
from rtl_jax.lab.config import Experiment, Sweep
from rtl_jax.lab.sweep.estimate import Costs
from rtl_jax.lab.sweep.grid import cells
from rtl_jax.lab.sweep.plan import KNOWN
from rtl_jax.train.recipe import Recipe

# 'source' trains on features, without augmentation, seeds side by side; 'paper' as the paper does,
# in train mode and on images augmented anew, where seeds have nothing to share.
MODES = ("source", "paper")
SEEDS = 8


def experiment(mode: str) -> Experiment:
    """The settings of the whole grid with Table 4's numbers of seeds."""
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
    """By blocks: the step, the test, and the features where they are kept."""
    if mode == "source":
        return {
            blocks: (
                programs.training(blocks, SEEDS),
                programs.evaluation(blocks, SEEDS),
                programs.features(blocks),
            )
            for blocks in every
        }
    test = programs.evaluation(0, 1, mode="batch")  # of the whole network, whatever trained
    return {blocks: (programs.paper(blocks), test, None) for blocks in every}


def hours(
    programs: Programs,
    mode: str,
    an_image: Callable[[Case], float],
    every: Sequence[int] = BLOCKS,
) -> dict[int, float]:
    """Hours of the grid by blocks, from the seconds an image takes in a program (of one seed)."""
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
        # Features are made once for all images that a cell's seeds draw, at most all there are.
        seconds += (min(runs * number, sizes.train) + sizes.test) * cost.prefix
        total[recipe.blocks] += seconds / 3600
    return total


def counted() -> tuple[int, float]:
    """Runs of the grid, and the images that they train on, epochs counted."""
    runs, images = 0, 0.0
    for cell in cells(experiment("source")):
        number = cell.num_images or KNOWN[cell.experiment.target.dataset].train
        runs += len(cell.seeds)
        images += len(cell.seeds) * number * cell.experiment.transfer.epochs_for(number)
    return runs, images
