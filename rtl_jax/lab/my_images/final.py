"""The final network of `my_images`: training on everything, publication, and suspect labels."""

import dataclasses

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.conformal import Guarantees
from rtl_jax.lab.config import Experiment, Sweep
from rtl_jax.lab.finetune.job import Job, prepare
from rtl_jax.lab.finetune.task import finetune_job
from rtl_jax.lab.influence import wrong_labels
from rtl_jax.lab.influence.finetuned import of_job
from rtl_jax.lab.my_images.accuracy import Measurement
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.lab.predict.calibration import Calibration
from rtl_jax.models.network import Network
from rtl_jax.models.storage import is_network, network_path
from rtl_jax.runtime.paths import complete_or_absent


def train(
    settings: Experiment, divided: bool, workdir: epath.Path
) -> tuple[Job, Measurement | None]:
    """Fine-tune the choice on all training images, in WORKDIR/final.

    Returns the job and, if the folder is divided, the measurement on test/. (Otherwise, the rows
    measure the network on its own training images; the folds provide its accuracy.)
    """
    folds = None if divided else settings.target.folds
    target = dataclasses.replace(settings.target, num_images=None, fold=None, folds=folds)
    final = dataclasses.replace(settings, task="finetune", target=target, sweep=Sweep())
    job = prepare(final)
    finetune_job(job, workdir / "final")
    return job, _tested(job, workdir) if divided else None


def _tested(job: Job, workdir: epath.Path) -> Measurement:
    test = job.test_images
    named = network_of(job, workdir).predict_proba(test.images).argmax(1)
    return Measurement.of(named == test.labels, test.labels, job.dataset.class_names)


def network_of(job: Job, workdir: epath.Path) -> Network:
    """Load the final network, before anything is added to it."""
    return Network.load(network_path(workdir / "final", job.run))


def publish(
    network: Network, calibration: Calibration, guarantees: Guarantees, workdir: epath.Path
) -> epath.Path:
    """Write the network with calibration and guarantees to WORKDIR/network, unless it is there."""
    provenance = {
        **network.provenance,
        "calibration": calibration.to_dict(),
        "guarantees": guarantees.to_dict(),
    }
    destination = workdir / "network"
    if is_network(destination) and Network.load(destination).provenance == provenance:
        return destination
    # Renamed first: an interrupted removal would leave a damaged network.
    former = workdir / ".former_network"
    if former.exists():
        former.rmtree()
    if destination.exists():
        destination.rename(former)
    network.replace(provenance=provenance).save(destination)
    if former.exists():
        former.rmtree()
    return destination


def suspects(
    job: Job, chosen: HeldOut, temperature: float, workdir: epath.Path
) -> tuple[pd.DataFrame, epath.Path]:
    """Return the training images, the most suspicious first, and a picture of the first ones.

    They are sorted by the probability that the network trained without an image gives to its label.
    This finds more wrong labels than self-influence, of a network that has learnt them (measured in
    docs/influence.md). WORKDIR/suspects.csv has both, except for a ridge head, for which influence
    is not defined.
    """
    final = of_job(job, workdir / "final")
    if chosen.candidate.solved and chosen.candidate.head_fit == "ridge":
        table = _described(job)
    else:
        ranked = wrong_labels.rank(job.experiment.influence, final)
        table = wrong_labels.suspects(final, ranked)
    images = table["image"].to_numpy()
    probabilities = chosen.probabilities(temperature)
    names = np.array(job.dataset.class_names)
    table["held_out_prediction"] = names[probabilities[images].argmax(1)]
    table["held_out_probability"] = probabilities[images, chosen.labels[images]]
    # Stable: equal probabilities stay in the order of self-influence.
    table = table.sort_values("held_out_probability", kind="stable")
    with complete_or_absent(workdir / "suspects.csv", replace=True) as temporary:
        temporary.write_text(table.to_csv(index=False))
    picture = workdir / "suspects.png"
    wrong_labels.draw_first(picture, final, table, named="held_out_prediction")
    return table, picture


def _described(job: Job) -> pd.DataFrame:
    """Return the columns of `wrong_labels.suspects` that identify the image."""
    columns = {
        "row": np.arange(len(job.train_indices)),
        "image": job.train_indices,
        "file": wrong_labels.image_files(job),
        "label": np.array(job.dataset.class_names)[job.training_images.labels],
    }
    return pd.DataFrame({name: column for name, column in columns.items() if column is not None})
