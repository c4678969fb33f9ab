"""The grid of a sweep: its cells, and the runs in each."""

import dataclasses
import itertools

from rtl_jax.data import seed_for
from rtl_jax.lab.config import FIRST_SEED, NAMES, NUMBERS, Experiment, Slurm, Sweep


@dataclasses.dataclass(frozen=True)
class Cell:
    """Runs that differ only in their seeds: one source, target, fold, number of blocks and images,
    learning rate and so on."""

    experiment: Experiment  # of its first seed
    seeds: tuple[int, ...]

    @property
    def pair(self) -> tuple[str, str]:
        """The source and target to load."""
        return self.experiment.source.checkpoint, self.experiment.target.dataset

    @property
    def group(self) -> tuple[str, str, int | None]:
        """The source, target and number of blocks, which determine the features."""
        return (*self.pair, self.experiment.transfer.blocks)

    @property
    def num_images(self) -> int | None:
        """The number of training images of each run; None for all."""
        return self.experiment.target.num_images

    def member(self, seed: int) -> Experiment:
        """Return the run of one seed."""
        return dataclasses.replace(self.experiment, seed=seed)


def cells(experiment: Experiment) -> list[Cell]:
    """Return all cells of a sweep; those that share features or compiled programs are adjacent."""
    grid, transfer, target = experiment.sweep, experiment.transfer, experiment.target
    sizes = [size or None for size in grid.num_images] or [target.num_images]
    lengths = dict(zip(sizes, grid.epochs, strict=False))  # none without sweep.epochs
    found = []
    settings = {**NUMBERS, **NAMES}
    values = (getattr(grid, axis) or [getattr(transfer, name)] for axis, name in settings.items())
    for blocks, dataset, checkpoint, size, fold, *chosen in itertools.product(
        grid.blocks or [transfer.blocks],
        grid.targets or [target.dataset],
        grid.sources or [experiment.source.checkpoint],
        sizes,
        grid.folds or [target.fold],
        *values,
    ):
        changes = dict(zip(settings.values(), chosen, strict=True))
        one = dataclasses.replace(
            experiment,
            source=dataclasses.replace(experiment.source, checkpoint=checkpoint),
            target=dataclasses.replace(target, dataset=dataset, num_images=size, fold=fold),
            transfer=dataclasses.replace(
                transfer, blocks=blocks, epochs=lengths.get(size, transfer.epochs), **changes
            ),
            sweep=Sweep(),  # a run does not depend on the grid around it
            dry_run=False,
            executor="local",
            slurm=Slurm(),
        )
        step = seed_for(1) - FIRST_SEED
        seeds = (experiment.seed + step * index for index in range(grid.seeds_for(size)))
        found.append(Cell(one, tuple(seeds)))
    return found


def groups(cells: list[Cell]) -> list[list[Cell]]:
    """Group adjacent cells that share features."""
    return [list(group) for _, group in itertools.groupby(cells, key=lambda cell: cell.group)]
