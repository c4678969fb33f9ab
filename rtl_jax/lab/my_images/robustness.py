"""How robust the chosen network is, measured on images that its networks did not see."""

import dataclasses
from collections import Counter

import numpy as np
from etils import epath

from rtl_jax.lab.attack.task import measure_robustness
from rtl_jax.lab.config import Experiment, Source, Sweep, Target
from rtl_jax.lab.finetune.job import prepare
from rtl_jax.lab.influence.label_noise import write_set
from rtl_jax.lab.my_images.findings import Accuracy
from rtl_jax.lab.my_images.held_out import HeldOut
from rtl_jax.lab.sweep.table import last_epochs
from rtl_jax.lab.sweep.task import sweep
from rtl_jax.models.sources import Convert


def held_out_robustness(
    experiment: Experiment, chosen: HeldOut, workdir: epath.Path, convert: Convert | None
) -> dict[float, Accuracy]:
    """Attack each fold's images with the network that trained without them; accuracy by radius.

    Source and blocks are the experiment's, those of `chosen`. The networks of the first seed are
    trained again, to be kept, in `workdir`: a comparison keeps none.
    """
    grid = Sweep(folds=tuple(np.unique(chosen.folds).tolist()), seeds=1, keep_networks=True)
    rows = last_epochs(sweep(dataclasses.replace(experiment, sweep=grid), workdir, convert))
    right: Counter[float] = Counter()
    images = 0
    for run, fold in zip(rows["run"], rows["fold"], strict=True):
        attacked = _attack(experiment, str(run), int(fold), workdir, convert)
        right.update(attacked.right)
        images += attacked.images
    return {eps: Accuracy.counted(right[eps], images) for eps in experiment.attack.eps}


@dataclasses.dataclass(frozen=True)
class _Attacked:
    right: dict[float, int]  # images that withstand, by radius
    images: int


def _attack(
    experiment: Experiment, run: str, fold: int, workdir: epath.Path, convert: Convert | None
) -> _Attacked:
    """One fold, as a set of arrays: an attack knows nothing of folds."""
    target = dataclasses.replace(experiment.target, fold=fold)
    job = prepare(dataclasses.replace(experiment, task="finetune", target=target), convert)
    path = workdir / "folds" / f"{run}.npz"
    write_set(path, job.train, job.test)
    attack = dataclasses.replace(
        experiment,
        task="attack",
        source=Source(str(workdir / "runs" / run / "network")),
        target=Target(f"npz:{path}", image_size=target.image_size),
    )
    rows = measure_robustness(attack, workdir, convert)
    number = len(job.test)
    right = {
        eps: round(percent / 100 * number)
        for eps, percent in zip(rows["eps"], rows["accuracy"], strict=True)
    }
    return _Attacked(right, number)
