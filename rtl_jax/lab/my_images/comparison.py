"""The candidates of `my_images`: sources and numbers of blocks, compared by cross-validation."""

import dataclasses

import jax
import pandas as pd
from etils import epath

from rtl_jax.lab.config import Experiment
from rtl_jax.lab.my_images.forecast import BatchPlan, batches
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.lab.my_images.survey import Survey
from rtl_jax.lab.report import learning_curve
from rtl_jax.lab.report.learning_curve import LearningCurve
from rtl_jax.lab.results import last_epochs
from rtl_jax.lab.sweep.task import run_sweep

# Blocks and seeds that are tried where the settings do not say.
ON_CPU: tuple[tuple[int, ...], int] = (0, 1), 1
ON_ACCELERATOR: tuple[tuple[int, ...], int] = (0, 1, 2, 3), 3


def grid(experiment: Experiment, survey: Survey, dataset: str) -> tuple[Experiment, BatchPlan]:
    """The sweep that compares on a survey's pictures, the data set, and how they are divided."""
    counts = survey.counts()
    images = sum(counts.values())
    largest_fold = -(-images // survey.folds)
    divided = batches(images - largest_fold, experiment.transfer.batch_size, len(counts))
    blocks, seeds = ON_CPU if jax.default_backend() == "cpu" else ON_ACCELERATOR
    sweep_grid = dataclasses.replace(
        experiment.sweep,
        blocks=experiment.sweep.blocks or blocks,
        seeds=experiment.sweep.seeds or seeds,
        folds=tuple(range(survey.folds)),
        keep_logits=True,
    )
    target = dataclasses.replace(experiment.target, dataset=dataset, num_images=divided.num_images)
    transfer = dataclasses.replace(experiment.transfer, batch_size=divided.batch_size)
    compared = dataclasses.replace(
        experiment, task="sweep", target=target, transfer=transfer, sweep=sweep_grid
    )
    return compared, divided


def of_choice(settings: Experiment, chosen: HeldOut) -> Experiment:
    """The settings with the chosen source and blocks in place of the grid's."""
    return dataclasses.replace(
        settings,
        source=dataclasses.replace(settings.source, checkpoint=chosen.source),
        transfer=dataclasses.replace(settings.transfer, blocks=chosen.blocks),
        sweep=dataclasses.replace(
            settings.sweep, sources=(chosen.source,), blocks=(chosen.blocks,)
        ),
    )


def curve(settings: Experiment, divided: BatchPlan, workdir: epath.Path) -> LearningCurve | None:
    """The chosen candidate on smaller parts of the folds; None where three sizes are not there."""
    sizes = (*divided.smaller, divided.num_images)
    if len(sizes) < learning_curve.LEAST:
        return None
    sizes_grid = dataclasses.replace(settings.sweep, num_images=sizes)
    rows = last_epochs(run_sweep(dataclasses.replace(settings, sweep=sizes_grid), workdir))
    return learning_curve.fit(_by_size(rows))


def _by_size(rows: pd.DataFrame) -> dict[int, pd.Series]:
    """Accuracies by number of images, and then by seed and fold."""
    return {
        int(size): part.set_index(["seed", "fold"])["accuracy"]
        for size, part in rows.groupby("num_images")
    }
