"""The task `my_images`: from a folder of photographs to a trained network and a report on it.

It surveys the folder, forecasts the time, compares candidates by cross-validation, chooses one,
fine-tunes it on everything, measures it and writes the page. Runs are identified by their content,
so the same command resumes where it was interrupted, and repeats only what a changed folder
affects.
"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from etils import epath

from rtl_jax.data.source import called, local, moved, parse
from rtl_jax.data.sources import training_files
from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.finetune.job import Job
from rtl_jax.lab.influence.plots import draw_suspects
from rtl_jax.lab.my_images import comparison, final, guarantees
from rtl_jax.lab.my_images.accuracy import Measurement
from rtl_jax.lab.my_images.choice import choose, honest_hits
from rtl_jax.lab.my_images.cleaning import without_suspects
from rtl_jax.lab.my_images.findings import Findings
from rtl_jax.lab.my_images.forecast import BatchPlan, forecast
from rtl_jax.lab.my_images.held_out import HeldOut, confidently_wrong, gather
from rtl_jax.lab.my_images.page import compose
from rtl_jax.lab.my_images.robustness import held_out_robustness
from rtl_jax.lab.my_images.survey import Survey, look_over
from rtl_jax.lab.my_images.table import with_reference
from rtl_jax.lab.predict.calibration import calibrate
from rtl_jax.lab.report.task import write_report
from rtl_jax.lab.results import last_epochs
from rtl_jax.lab.sweep.grid import Cell, cells
from rtl_jax.models.network import Network
from rtl_jax.runtime.paths import absolute


def run_my_images(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Run every stage on `target.dataset`, a folder, and return the comparison's rows.

    They also have the columns of `table.with_reference`. Writes WORKDIR/network,
    WORKDIR/report/index.html, survey.csv, images.csv and suspects.csv. A dry run surveys the folder
    and forecasts how long the rest takes. Raises UserError for user-fixable errors.
    """
    started, workdir = time.monotonic(), absolute(workdir)
    survey = _survey(experiment)
    print(survey.describe())
    path = survey.write(workdir)
    known = known_path(workdir, path, experiment)
    dataset = f"list:{known}"
    with contextlib.ExitStack() as stack:
        if known != path:
            stack.enter_context(moved(known, path))
        stack.enter_context(called(dataset, experiment.target.dataset))
        return _compare(experiment, survey, dataset, workdir, started)


def known_path(workdir: epath.Path, path: Path, experiment: Experiment) -> Path:
    """Return the path by which a work directory's runs know its list, which is now at `path`.

    It is another one if the directory was moved: runs' names depend on it, so `path` would repeat
    them all. With other executors it is `path`, since their workers read the list there.
    """
    if experiment.executor != "local":
        return path
    names = {str(name) for name in results.finished(workdir, "dataset")}
    lists = {Path(name.removeprefix("list:")) for name in names if name.startswith("list:")}
    former = sorted(one for one in lists if one.name == path.name and one.is_absolute())
    if path in former or len(former) != 1 or former[0].exists():
        return path
    print(f"{workdir} was {former[0].parent} when its runs were made: they are reused")
    return former[0]


def _compare(
    experiment: Experiment, survey: Survey, dataset: str, workdir: epath.Path, started: float
) -> pd.DataFrame:
    grids, divided = comparison.grids(experiment, survey, dataset)
    every = [cell for settings in grids for cell in cells(settings)]
    print(_candidates(every))
    attacks = "; attacking held-out images comes on top" if experiment.my_images.robustness else ""
    print(forecast(every, divided.smaller).describe() + attacks)
    if experiment.dry_run:
        return results.frame([])
    rows = comparison.compare(grids, workdir)
    candidates = gather(last_epochs(rows), workdir)
    found = _find(grids[0], divided, survey, candidates, workdir)
    write_report(workdir / "report", compose(found))
    minutes = (time.monotonic() - started) / 60
    print(f"accuracy on unseen images: {found.accuracy}; {found.held_out.reference()}")
    if found.verdict:
        print(found.verdict)
    page = workdir / "report" / "index.html"
    print(f"network: {found.network}\nreport: {page}\n{minutes:.1f} minutes in all")
    return with_reference(rows, candidates)


def _candidates(every: Sequence[Cell]) -> str:
    """Name the sources and numbers of blocks that are compared."""
    settings = [cell.experiment for cell in every]
    sources = ", ".join(dict.fromkeys(one.source.checkpoint for one in settings))
    blocks = dict.fromkeys(one.transfer.blocks for one in settings)
    listed = ", ".join("all" if one is None else str(one) for one in blocks)
    return f"candidates: {sources}; trained blocks: {listed}"


def _survey(experiment: Experiment) -> Survey:
    target = experiment.target
    kind, path = parse(target.dataset)
    if kind != "folder":
        raise UserError(f"target.dataset: expected folder:PATH, received {target.dataset}")
    if target.folds is None:
        raise UserError("target.folds: expected 2 or more with task=my_images, received None")
    return look_over(local(path), target.image_size, target.folds)


def _find(
    settings: Experiment,
    divided: BatchPlan,
    survey: Survey,
    candidates: list[HeldOut],
    workdir: epath.Path,
) -> Findings:
    """Choose among the candidates, train the final network, and measure what the page reports."""
    margin = settings.my_images.margin
    chosen = choose(candidates, margin)
    print(
        f"selected among {len(candidates)} candidates: {chosen.name}, held-out accuracy "
        f"{chosen.accuracy:.1f} %, balanced accuracy {chosen.balanced_accuracy:.1f} %"
    )
    calibration = calibrate(*chosen.pooled)
    settings = comparison.of_choice(settings, chosen)
    job, tested = final.train(settings, survey.divided, workdir)
    trained = final.network_of(job, workdir)
    kept = guarantees.collect(job, trained, chosen, calibration.temperature)
    network = final.publish(trained, calibration, kept, workdir)
    sets = guarantees.measure(job, Network.load(network), candidates, survey.divided)
    suspects, shown = final.suspects(job, chosen, calibration.temperature, workdir)
    robustness = None
    if settings.my_images.robustness:
        robustness = held_out_robustness(settings, chosen, workdir / "robustness")
    names = job.dataset.class_names
    held_out = Measurement.of(honest_hits(candidates, margin), chosen.labels, names)
    curve = comparison.curve(settings, chosen, divided, workdir)
    return Findings(
        survey=survey,
        settings=settings,
        class_names=names,
        files=[file for file, _ in training_files(settings.target.dataset) or ()],
        candidates=candidates,
        chosen=chosen,
        held_out=held_out,
        accuracy=held_out.accuracy.with_more(curve, len(job.train_indices)),
        tested=tested,
        calibration=calibration,
        sets=sets,
        curve=curve,
        suspects=suspects,
        suspects_picture=Path(shown),
        cleanings=without_suspects(job, chosen),
        wrong_picture=_draw_wrong(workdir, job, chosen, calibration.temperature),
        robustness=robustness,
        network=Path(network),
    )


def _draw_wrong(workdir: epath.Path, job: Job, chosen: HeldOut, temperature: float) -> Path | None:
    """Draw the most confidently misclassified held-out images as PNG; None if there are none."""
    images = confidently_wrong(chosen, temperature, job.experiment.my_images.num_shown)
    if not len(images):
        return None
    names = job.dataset.class_names
    probabilities = chosen.probabilities(temperature)[images]
    named = [f"{names[row.argmax()]}, {row.max():.0%}" for row in probabilities]
    labels = [names[label] for label in chosen.labels[images]]
    path = workdir / "wrong.png"
    draw_suspects(path, job.dataset.train.images[images], labels, named, None)
    return Path(path)
