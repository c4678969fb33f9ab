"""The final network of `my_images`: fine-tuned on everything, published, and asked for suspects."""

import dataclasses

import pandas as pd
from etils import epath

from rtl_jax.lab.config import Experiment, Sweep
from rtl_jax.lab.finetune.job import Job, prepare
from rtl_jax.lab.finetune.task import finetune
from rtl_jax.lab.influence.wrong_labels import find_wrong_labels
from rtl_jax.lab.my_images.findings import Accuracy
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.lab.predict.calibration import Calibration
from rtl_jax.lab.sweep.table import last_epochs
from rtl_jax.models.checkpoint import is_network, load_network, save_network
from rtl_jax.models.sources import Convert
from rtl_jax.runtime.paths import complete_or_absent


def train(
    settings: Experiment, divided: bool, workdir: epath.Path, convert: Convert | None
) -> tuple[Job, Accuracy | None]:
    """Fine-tune the choice on all training images, in WORKDIR/final.

    Returns the job and, of a folder that is divided, the accuracy on test/. (The rows of another
    measure the network on what it was trained on: folds are how it is known there.)
    """
    folds = None if divided else settings.target.folds
    target = dataclasses.replace(settings.target, num_images=None, fold=None, folds=folds)
    final = dataclasses.replace(settings, task="finetune", target=target, sweep=Sweep())
    (last,) = last_epochs(finetune(final, workdir / "final", convert)).itertuples()
    tested = None
    if divided:
        right = round(last.accuracy / 100 * last.num_test_images)
        tested = Accuracy.counted(right, last.num_test_images)
    return prepare(final, convert), tested


def publish(job: Job, calibration: Calibration, workdir: epath.Path) -> epath.Path:
    """Copy the network with its calibration to WORKDIR/network, unless it is there already."""
    network = load_network(workdir / "final" / "runs" / job.run / "network")
    provenance = {**network.provenance, "calibration": calibration.to_dict()}
    destination = workdir / "network"
    if is_network(destination) and load_network(destination).provenance == provenance:
        return destination
    if destination.exists():
        destination.rmtree()
    save_network(destination, network.architecture, network.params, network.batch_stats, provenance)
    return destination


def suspects(
    settings: Experiment,
    network: epath.Path,
    chosen: HeldOut,
    temperature: float,
    workdir: epath.Path,
    convert: Convert | None,
) -> tuple[pd.DataFrame, epath.Path]:
    """Training images by self-influence, the most suspicious first, and a picture of the first.

    WORKDIR/suspects.csv has them with what held-out networks say of their labels.
    """
    question = dataclasses.replace(
        settings.influence,
        question="wrong_labels",
        run=str(network),
        compare=None,
        flip_labels=0.0,
    )
    asked = dataclasses.replace(settings, task="influence", influence=question, sweep=Sweep())
    rows = find_wrong_labels(asked, workdir / "final", convert)
    directory = workdir / "final" / "runs" / rows["run"].iloc[0]
    with (directory / "training_images.csv").open() as file:
        table = pd.read_csv(file, dtype={"label": str, "prediction": str})
    images = table["image"].to_numpy()
    probabilities = chosen.probabilities(temperature)
    table["held_out_probability"] = probabilities[images, chosen.labels[images]]
    with complete_or_absent(workdir / "suspects.csv", replace=True) as temporary:
        temporary.write_text(table.to_csv(index=False))
    return table, directory / "suspects.png"
