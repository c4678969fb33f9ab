"""Robustness of the chosen candidate, measured on held-out images."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
from etils import epath

from rtl_jax.lab.attack.networks import NetworkUnderAttack
from rtl_jax.lab.attack.task import measure
from rtl_jax.lab.config import Experiment, Source, Sweep
from rtl_jax.lab.finetune.job import Job, assemble, load_inputs
from rtl_jax.lab.my_images.accuracy import Accuracy
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.lab.results import last_epochs
from rtl_jax.lab.sweep.task import run_sweep
from rtl_jax.models.network import Network
from rtl_jax.models.storage import network_path


def held_out_robustness(
    experiment: Experiment, chosen: HeldOut, workdir: epath.Path
) -> dict[float, Accuracy]:
    """Attack each fold's images on the network trained without them; return accuracy by radius.

    The experiment's settings are those of `chosen`. The networks of the first seed are trained
    again in `workdir`, since a comparison keeps none.
    """
    grid = Sweep(folds=tuple(np.unique(chosen.folds).tolist()), seeds=1, keep_networks=True)
    rows = last_epochs(run_sweep(dataclasses.replace(experiment, sweep=grid), workdir))
    inputs = load_inputs(experiment)
    right: Counter[float] = Counter()
    images = 0
    for run, fold in zip(rows["run"], rows["fold"], strict=True):
        target = dataclasses.replace(experiment.target, fold=int(fold))
        one = dataclasses.replace(experiment, task="finetune", target=target)
        job = assemble(one, inputs)
        right.update(_withstood(job, str(run), workdir))
        images += len(job.test_indices)
    return {eps: Accuracy.counted(right[eps], images) for eps in experiment.attack.eps}


def _withstood(job: Job, run: str, workdir: epath.Path) -> dict[float, int]:
    """Return how many images of a fold its network still classifies correctly, by radius."""
    place = network_path(workdir, run)
    # Its run, too, is named by the work directory's path when the list was first written.
    home = Path(job.experiment.target.dataset.removeprefix("list:")).parent
    moved = home != Path(workdir.parent)
    named = home / workdir.name / place.relative_to(workdir) if moved else place
    settings = dataclasses.replace(job.experiment, task="attack", source=Source(str(named)))
    subject = NetworkUnderAttack(
        f"fold {job.experiment.target.fold}", Network.load(place), settings, {}
    )
    rows = measure(subject, job.test_images, job.dataset.order, workdir).rows()
    return {
        eps: round(percent / 100 * len(job.test_indices))
        for eps, percent in zip(rows["eps"], rows["accuracy"], strict=True)
    }
