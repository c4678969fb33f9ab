"""The task `choose`: ranks sources and numbers of blocks before any network is fine-tuned."""

import dataclasses
import time

import numpy as np
import pandas as pd
from etils import epath

from rtl_jax.data.dataset import Dataset, ImageSet
from rtl_jax.data.leaks import without_copies
from rtl_jax.errors import UserError
from rtl_jax.lab import results
from rtl_jax.lab.choose.table import (
    curves_frame,
    curves_text,
    draw_curves,
    ranking_frame,
    ranking_text,
)
from rtl_jax.lab.compatibility import name_differences
from rtl_jax.lab.config import Experiment, Target
from rtl_jax.lab.inputs import draw_rows, load_network, load_target
from rtl_jax.lab.memory import Batch, require_memory
from rtl_jax.lab.run import open_run
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.runtime.digest import digest
from rtl_jax.runtime.paths import complete_or_absent
from rtl_jax.runtime.progress import bar
from rtl_jax.transferability.choose import BATCH, DRAWS, Candidate, choose


def run_choose(experiment: Experiment, workdir: epath.PathLike) -> pd.DataFrame:
    """Rank `sweep.sources` with each of `sweep.blocks` for the target's training images.

    The images are `target.num_images`, or all if there are fewer. The ranking is printed and, with
    every score, written to WORKDIR/ranking.csv; each candidate has a row. `sweep.num_images` adds
    learning curves, from `sweep.seeds` random subsets of every size, in learning_curves.csv and
    .png. This takes seconds and is computed anew each time. Raises UserError for user-fixable
    errors.
    """
    started = time.monotonic()
    dataset = load_target(experiment.target)
    target = _at_most_all(experiment.target, dataset)
    images = _different(dataset, draw_rows(target, dataset, experiment.seed)[0])
    networks = {
        name: load_network(dataclasses.replace(experiment.source, checkpoint=name), experiment.seed)
        for name in experiment.sweep.sources or (experiment.source.checkpoint,)
    }
    for name, network in networks.items():
        name_differences(name, network, target.image_size, images)
        batch = Batch("target.num_images", min(BATCH, len(images)), "look")
        require_memory(network.architecture, target.image_size, batch)
    blocks = experiment.sweep.blocks or (experiment.transfer.blocks,)
    ranked = _rank(experiment, networks, images, dataset.num_classes, blocks)
    print(ranking_text(ranked, len(images)))
    _write(epath.Path(workdir) / "ranking.csv", ranking_frame(ranked))
    if experiment.sweep.num_images:
        curves = curves_frame(ranked)
        print(curves_text(curves))
        _write(epath.Path(workdir) / "learning_curves.csv", curves)
        draw_curves(epath.Path(workdir) / "learning_curves.png", curves)
    content = {
        "networks": [one.digest for one in networks.values()],
        "images": digest((images.images, images.labels)),
    }
    runs = []
    for number in blocks:
        with open_run(workdir, experiment.fingerprint(candidate=number, **content)) as run:
            runs.append(run.name)
            run.finish(
                results.row(
                    dataclasses.replace(
                        experiment,
                        source=dataclasses.replace(experiment.source, checkpoint=one.source),
                    ),
                    run=run.name,
                    method="choose",
                    data_order=dataset.order,
                    num_images=len(images),
                    num_test_images=len(images),
                    blocks=one.blocks,
                    accuracy=100 * one.accuracy,
                    loss=one.loss,
                    seconds=time.monotonic() - started,
                    **networks[one.source].columns() | {"num_classes": dataset.num_classes},
                    **devices.describe(),
                )
                for one in ranked
                if one.blocks == number
            )
    table = results.read_rows(workdir)
    return table[table["run"].isin(runs)].reset_index(drop=True)


def _at_most_all(target: Target, dataset: Dataset) -> Target:
    """Return settings for all training images if there are fewer than `target.num_images`."""
    number, total = target.num_images, len(dataset.train)
    if number is None or number <= total:
        return target
    print(f"{dataset.name} has {total} training images, not {number}: all are used")
    return dataclasses.replace(target, num_images=None)


def _different(dataset: Dataset, rows: np.ndarray) -> ImageSet:
    """Return the images at `rows` without copies, which their originals would predict."""
    images = dataset.train.take(np.sort(rows))
    different = without_copies(images)
    if copies := len(images) - len(different):
        print(f"{copies} of {len(images)} images repeat others: left out")
    return different


def _rank(
    experiment: Experiment,
    networks: dict[str, Network],
    images: ImageSet,
    num_classes: int,
    blocks: tuple[int | None, ...],
) -> list[Candidate]:
    known = [number for number in blocks if number is not None]
    if len(known) < len(blocks):
        raise UserError("sweep.blocks: expected numbers with task 'choose', received none")
    with bar("features", len(images) * len(networks)) as progress:
        return choose(
            networks,
            images,
            num_classes,
            known,
            image_size=experiment.target.image_size,
            num_images=[number or len(images) for number in experiment.sweep.num_images],
            draws=experiment.sweep.seeds or DRAWS,
            seed=experiment.seed,
            progress=progress.update,
        )


def _write(path: epath.Path, frame: pd.DataFrame) -> None:
    with complete_or_absent(path, replace=True) as temporary:
        temporary.write_text(frame.to_csv(index=False))
