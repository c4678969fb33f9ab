"""The final network of `my_images`: fine-tuned on everything, published, and asked for suspects."""

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
from rtl_jax.models.storage import is_network
from rtl_jax.runtime.paths import complete_or_absent


def train(
    settings: Experiment, divided: bool, workdir: epath.Path
) -> tuple[Job, Measurement | None]:
    """Fine-tune the choice on all training images, in WORKDIR/final.

    Returns the job and, of a folder that is divided, what was measured on test/. (The rows of
    another measure the network on what it was trained on: folds are how it is known there.)
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
    """The final network, before anything is added to it."""
    return Network.load(workdir / "final" / "runs" / job.run / "network")


def publish(
    network: Network, calibration: Calibration, guarantees: Guarantees, workdir: epath.Path
) -> epath.Path:
    """Write the network with what is added to WORKDIR/network, unless it is there already."""
    provenance = {
        **network.provenance,
        "calibration": calibration.to_dict(),
        "guarantees": guarantees.to_dict(),
    }
    destination = workdir / "network"
    if is_network(destination) and Network.load(destination).provenance == provenance:
        return destination
    # Half a network, of a removal that was interrupted, would be called damaged.
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
    """Training images, the most suspicious first, and a picture of the first.

    That is by the probability that the network trained without an image gives to its label: it
    finds more wrong labels than self-influence, of a network that has learnt them (measured in
    docs/influence.md). WORKDIR/suspects.csv has both; but of a ridge head, of which influence is
    not defined, the first alone.
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
    # Stable: what is equally probable stays in the order of self-influence.
    table = table.sort_values("held_out_probability", kind="stable")
    with complete_or_absent(workdir / "suspects.csv", replace=True) as temporary:
        temporary.write_text(table.to_csv(index=False))
    picture = workdir / "suspects.png"
    wrong_labels.draw_first(picture, final, table, named="held_out_prediction")
    return table, picture


def _described(job: Job) -> pd.DataFrame:
    """The columns of `wrong_labels.suspects` that say which image it is."""
    columns = {
        "row": np.arange(len(job.train_indices)),
        "image": job.train_indices,
        "file": wrong_labels.image_files(job),
        "label": np.array(job.dataset.class_names)[job.training_images.labels],
    }
    return pd.DataFrame({name: column for name, column in columns.items() if column is not None})
