"""The candidates of `my_images`, compared by cross-validation, in one sweep or several."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from etils import epath

from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.my_images.forecast import BatchPlan, batches
from rtl_jax.lab.my_images.held_out import HEADS, HeldOut
from rtl_jax.lab.my_images.survey import Survey
from rtl_jax.lab.report import learning_curve
from rtl_jax.lab.report.learning_curve import LearningCurve
from rtl_jax.lab.statistics import independent
from rtl_jax.lab.sweep.plan import plan, shares
from rtl_jax.lab.sweep.task import run_sweep
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar


class Usual(NamedTuple):
    """Default axes of the comparison: blocks, seeds, and initial heads if blocks train."""

    blocks: tuple[int, ...]
    seeds: int
    starts: tuple[str, ...]


# docs/training.md has the benefit and the cost of starting from a fitted head.
ON_CPU = Usual((0, 1), 1, ("sgd",))
ON_ACCELERATOR = Usual((0, 1, 2, 3), 3, ("sgd", "logistic"))
# For a head alone, which is cheap: factors for the settings' learning rate.
RATES = (1.0, 3.0, 10.0)


def grids(
    experiment: Experiment, survey: Survey, dataset: str
) -> tuple[list[Experiment], BatchPlan]:
    """Return the sweeps that compare candidates on a survey's pictures, and the batch plan.

    There is one for heads that are solved for, one for heads that are trained, and one for blocks,
    each with the axes that matter to it. Heads or rates named in the settings replace the defaults.
    `dataset` is the pictures' data set.
    """
    counts = survey.counts()
    images = sum(counts.values())
    largest_fold = -(-images // survey.folds)
    divided = batches(images - largest_fold, experiment.transfer.batch_size, len(counts))
    transfer = experiment.transfer
    # One number for all sizes: by size, the final network could train longer than what was chosen.
    epochs = transfer.epochs or transfer.replace(head_fit="sgd").epochs_for(divided.num_images)
    usual = ON_CPU if devices.platform() == "cpu" else ON_ACCELERATOR
    chosen = experiment.sweep
    everything = dataclasses.replace(
        experiment,
        task="sweep",
        target=dataclasses.replace(
            experiment.target, dataset=dataset, num_images=divided.num_images
        ),
        transfer=transfer.replace(batch_size=divided.batch_size, epochs=epochs),
        sweep=dataclasses.replace(
            chosen,
            seeds=chosen.seeds or usual.seeds,
            folds=tuple(range(survey.folds)),
            keep_logits=True,
            keep_every_logits=True,
        ),
    )
    blocks = chosen.blocks or usual.blocks
    trained = tuple(number for number in blocks if number)
    found = _heads_alone(everything) if 0 in blocks else []
    if trained:
        starts = _heads(experiment, usual.starts)
        found.append(_with(everything, blocks=trained, head_fits=starts))
    return found, divided


def _heads_alone(everything: Experiment) -> list[Experiment]:
    heads, transfer = _heads(everything, HEADS), everything.transfer
    solved = tuple(one for one in heads if one != "sgd")
    if not everything.sweep.head_fits and not _may_be_solved(everything):
        solved = ()
    found = []
    if solved:
        found.append(_with(everything, blocks=(0,), head_fits=solved, learning_rates=()))
    if "sgd" in heads or not solved:
        rates = everything.sweep.learning_rates or tuple(
            rate * transfer.learning_rate for rate in RATES
        )
        found.append(_with(everything, blocks=(0,), head_fits=("sgd",), learning_rates=rates))
    return found


def _heads(experiment: Experiment, usual: Sequence[str]) -> tuple[str, ...]:
    """Return the heads named in the settings, or else the usual ones."""
    one = experiment.transfer.head_fit
    return experiment.sweep.head_fits or ((one,) if one != "sgd" else tuple(usual))


def _may_be_solved(experiment: Experiment) -> bool:
    """Whether the training's settings are all valid for a head that is solved for."""
    try:
        experiment.transfer.replace(blocks=0, head_fit="ridge")
    except UserError:
        return False
    return True


def _with(experiment: Experiment, **axes: object) -> Experiment:
    sweep = dataclasses.replace(experiment.sweep, **axes)  # type: ignore[arg-type]
    return dataclasses.replace(experiment, sweep=sweep)


def compare(settings: Sequence[Experiment], workdir: epath.Path) -> pd.DataFrame:
    """Run all grids and return their rows."""
    works = shares([plan(one, workdir).works().values() for one in settings])
    with bar("comparing", sum(works), leave=True, unit="") as progress:
        found = []
        for one, work in zip(settings, works, strict=True):
            progress.give(work)
            found.append(run_sweep(one, workdir, says=False))
    return pd.concat(found, ignore_index=True)


def of_choice(settings: Experiment, chosen: HeldOut) -> Experiment:
    """Return the chosen candidate's settings; its schedule may be longer than its training."""
    candidate, transfer = chosen.candidate, settings.transfer
    changes: dict[str, object] = {"blocks": candidate.blocks, "head_fit": candidate.head_fit}
    if candidate.learning_rate is not None:
        changes["learning_rate"] = candidate.learning_rate
    if candidate.epochs < chosen.spanned:
        spanned = transfer.schedule_epochs or chosen.spanned
        changes |= {"epochs": candidate.epochs, "schedule_epochs": spanned}
        if transfer.average_from is not None and transfer.average_from > candidate.epochs:
            changes["average_from"] = None  # until then nothing is averaged
    return dataclasses.replace(
        settings,
        source=dataclasses.replace(settings.source, checkpoint=candidate.source),
        transfer=transfer.replace(**changes),
        sweep=dataclasses.replace(
            settings.sweep,
            sources=(candidate.source,),
            blocks=(candidate.blocks,),
            head_fits=(),
            learning_rates=(),
        ),
    )


def curve(
    settings: Experiment, chosen: HeldOut, divided: BatchPlan, workdir: epath.Path
) -> LearningCurve | None:
    """Fit the learning curve of the chosen candidate, given its settings, on parts of the folds.

    Its whole schedule is trained, so that the comparison's runs are reused. Returns None for fewer
    than three sizes.
    """
    sizes = (*divided.smaller, divided.num_images)
    if len(sizes) < learning_curve.LEAST:
        return None
    whole = settings.transfer
    if chosen.candidate.epochs < chosen.spanned:
        schedule = whole.schedule_epochs
        schedule = None if schedule == chosen.spanned else schedule  # see `of_choice`
        whole = whole.replace(epochs=chosen.spanned, schedule_epochs=schedule)
    sizes_grid = dataclasses.replace(settings.sweep, num_images=sizes)
    every = dataclasses.replace(settings, transfer=whole, sweep=sizes_grid)
    rows = run_sweep(every, workdir, says=False)
    measured = (rows["method"] == "transfer") & (rows["epoch"] == chosen.candidate.epochs)
    return learning_curve.fit(_by_size(rows[measured]))


def _by_size(rows: pd.DataFrame) -> dict[int, pd.Series]:
    """Return accuracies by number of images, then by fold."""
    return {int(size): independent(part) for size, part in rows.groupby("num_images")}
