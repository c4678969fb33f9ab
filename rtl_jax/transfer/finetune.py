"""Fine-tune a source network on a target data set and measure it: the story of one run.

Load the source and the data, draw the subset, put a new head on, keep what the frozen
prefix computes, then train, evaluate and checkpoint epoch by epoch. This file owns the
input and output; what it calls in a loop is pure (`step`).
"""

import dataclasses
import hashlib
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from etils import epath
from tqdm import tqdm

from rtl_jax import devices, results
from rtl_jax.checkpoint import Network, TrainingCheckpoints, save_network
from rtl_jax.config import Experiment
from rtl_jax.data import Dataset, ImageSet, draw_subset, draw_test_subset, load_dataset
from rtl_jax.errors import UserError
from rtl_jax.models import zoo
from rtl_jax.models.resnet import Variables
from rtl_jax.transfer import prefix
from rtl_jax.transfer.baseline import linear_pixels
from rtl_jax.transfer.head import new_head
from rtl_jax.transfer.step import (
    Frozen,
    Metrics,
    Program,
    TrainState,
    all_finite,
    evaluate_batch,
    run_epoch,
)


@dataclasses.dataclass(frozen=True)
class Job:
    """An experiment with its network and its images: everything that a run needs."""

    experiment: Experiment
    network: Network  # the source, its head replaced by the target's
    program: Program
    train: ImageSet
    test: ImageSet
    data_order: str

    @cached_property
    def run(self) -> str:
        """Identifies the run by content: the settings that matter, the network, the images."""
        images = [array for half in (self.train, self.test) for array in (half.images, half.labels)]
        return self.experiment.fingerprint(
            network=_digest([*self.network.params.values(), *self.network.batch_stats.values()]),
            images=_digest(images),
        )

    @property
    def key(self) -> jax.Array:
        """The key of the batches and the augmentation."""
        return jax.random.fold_in(jax.random.key(self.experiment.seed), 1)


def finetune(
    experiment: Experiment, workdir: epath.PathLike, convert: zoo.Convert | None = None
) -> pd.DataFrame:
    """Run one experiment, or what is left of it, and return its rows.

    Rows go to WORKDIR/rows, checkpoints and the fine-tuned network to WORKDIR/runs/RUN. A
    finished run is not repeated, an interrupted one goes on from its last checkpoint and
    ends as if it had not been interrupted. `convert` turns torch checkpoints into networks.

    Raises UserError for what the user can mend, a training that diverges included.
    """
    workdir = epath.Path(workdir)
    with devices.matmul_precision(experiment.transfer.precision):
        job = prepare(experiment, convert)
        path = results.rows_path(workdir, job.run)
        directory = workdir / "runs" / job.run
        if path.exists() and (directory / "network").exists():
            print(f"Run {job.run} is finished; its rows are in {path}")
        else:
            rows = _train(job, directory)
            if experiment.transfer.baseline:
                rows.append(_baseline_row(job))
            results.write_rows(workdir, job.run, rows)
    table = results.read_rows(workdir)
    return table[table["run"] == job.run].reset_index(drop=True)


def prepare(experiment: Experiment, convert: zoo.Convert | None = None) -> Job:
    """Load the source and the data, draw the subset and the new head."""
    target, transfer = experiment.target, experiment.transfer
    source = zoo.load_source(experiment.source, seed=experiment.seed, convert=convert)
    dataset = load_dataset(
        target.dataset,
        data_dir=target.data_dir,
        image_size=target.image_size,
        seed=experiment.seed,
        classes=target.classes,
    )
    train, test = _subsets(dataset, experiment)
    program = Program(
        architecture=source.architecture.replace(num_classes=dataset.num_classes),
        settings=transfer,
        augmentation=experiment.augmentation,
        image_size=target.image_size,
        epochs=transfer.epochs_for(len(train)),
        num_images=len(train),
        dtype=devices.compute_dtype(transfer.precision),
    )
    network = new_head(source, program.architecture, transfer.head, experiment.seed)
    print(
        f"{experiment.source.checkpoint} ({network.architecture.name}) -> {target.dataset}: "
        f"{len(train)} training and {len(test)} test images of {dataset.num_classes} classes, "
        f"in {dataset.order} order, at {target.image_size} px"
    )
    return Job(experiment, network, program, train, test, dataset.order)


def _subsets(dataset: Dataset, experiment: Experiment) -> tuple[ImageSet, ImageSet]:
    target, classes = experiment.target, dataset.num_classes
    train = draw_subset(dataset.train.labels, target.num_images, experiment.seed, classes)
    test = draw_test_subset(dataset.test.labels, target.num_test_images, classes)
    return dataset.train.take(train), dataset.test.take(test)


# ---- Training ----------------------------------------------------------------------------------


def _train(job: Job, directory: epath.Path) -> list[dict[str, Any]]:
    """Train from the last checkpoint, or from the start; return the rows of all evaluations."""
    started = time.monotonic()
    settings = job.experiment.transfer
    with TrainingCheckpoints(directory / "checkpoints") as checkpoints:
        state, frozen, record = _restore_or_start(job, checkpoints)
        started -= record["seconds"]
        rows = [*record["rows"]]
        inputs = Inputs.place(job, state, frozen)
        evaluations = settings.eval_epochs(job.program.epochs)
        saved, saved_at = record["epoch"], time.monotonic()
        with _epoch_bar(job, saved) as bar:
            for epoch in range(saved + 1, job.program.epochs + 1):
                state, sums = run_epoch(
                    inputs.train_program,
                    state,
                    frozen,
                    inputs.train,
                    inputs.train_labels,
                    job.key,
                    jnp.asarray(epoch),
                )
                train = _means(sums)
                if not np.isfinite(train["loss"]) or not all_finite(state):
                    raise UserError(_divergence(epoch, train["loss"], saved, directory))
                if epoch in evaluations:
                    test = evaluate(inputs, state, frozen)
                    seconds = time.monotonic() - started
                    rows.append(_row(job, epoch, test, train, seconds))
                    bar.set_postfix(_postfix(train, test))
                else:
                    bar.set_postfix(_postfix(train, None))
                bar.update(len(job.train))
                due = time.monotonic() - saved_at >= settings.checkpoint_seconds
                if due or epoch == job.program.epochs:
                    record = {"epoch": epoch, "rows": rows, "seconds": time.monotonic() - started}
                    checkpoints.save(epoch, _saved(job, state), record)
                    saved, saved_at = epoch, time.monotonic()
        if not (directory / "network").exists():
            save_network(
                directory / "network",
                job.program.architecture,
                *jax.tree.map(np.asarray, job.program.variables(state, frozen)),
                {
                    "kind": "fine-tuned",
                    "run": job.run,
                    "source": job.network.provenance,
                    "settings": job.experiment.to_dict(),
                },
            )
    return rows


def _restore_or_start(
    job: Job, checkpoints: TrainingCheckpoints
) -> tuple[TrainState, Frozen, dict[str, Any]]:
    batch_stats: Variables = jax.tree.map(jnp.asarray, job.network.batch_stats)
    params: Variables = jax.tree.map(jnp.asarray, job.network.params)
    if job.experiment.transfer.frozen_batch_norm == "adapt":
        with _bar(len(job.train), "adapting statistics") as bar:
            batch_stats = prefix.adapt(
                job.program, params, batch_stats, job.train.images, bar.update
            )
    state, frozen = job.program.start(params, batch_stats)
    epoch = checkpoints.latest()
    if epoch is None:
        return state, frozen, {"epoch": 0, "rows": [], "seconds": 0.0}
    arrays, record = checkpoints.restore(epoch, _saved(job, state))
    treedef = jax.tree.structure(state)
    print(f"Run {job.run} goes on after epoch {epoch} of {job.program.epochs}")
    return treedef.unflatten(arrays["state"].values()), frozen, record


def _saved(job: Job, state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds: the state's leaves by name, in their order, and the key.

    The key never changes, since every epoch folds its number in; it is kept so that a
    checkpoint says by itself what drew its batches.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    named = {
        f"{index:04d}{jax.tree_util.keystr(path)}": leaf
        for index, (path, leaf) in enumerate(leaves)
    }
    return {"state": named, "key": jax.random.key_data(job.key)}


def _divergence(epoch: int, loss: float, saved: int, directory: epath.Path) -> str:
    kept = (
        f"the last good checkpoint is epoch {saved}, in {directory / 'checkpoints'}"
        if saved
        else "no checkpoint was written yet"
    )
    return (
        f"training diverged in epoch {epoch}: its loss is {loss}, or a parameter is not a finite "
        f"number; {kept}. Lower transfer.learning_rate (a large finite loss is normal here)"
    )


# ---- Data on the device, and evaluation ----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Training and test inputs on the device: images as stored, or features at the cut."""

    train_program: Program
    train: jax.Array
    train_labels: jax.Array
    test_program: Program
    test: jax.Array
    test_labels: jax.Array

    @classmethod
    def place(cls, job: Job, state: TrainState, frozen: Frozen) -> "Inputs":
        """Put the data on the device whole; compute features where they stay valid and fit."""
        limit = job.experiment.transfer.feature_cache_mib * 2**20
        placed = []
        for images, augmented in (
            (job.train, not job.program.augmentation.is_identity),
            (job.test, False),
        ):
            size = prefix.feature_bytes(job.program, len(images))
            if prefix.cacheable(job.program) and not augmented and size <= limit:
                limit -= size
                with _bar(len(images), "features of the frozen blocks") as bar:
                    inputs = prefix.features(job.program, state, frozen, images.images, bar.update)
                program = dataclasses.replace(job.program, features=True)
            else:
                inputs, program = jnp.asarray(images.images), job.program
            placed += [program, inputs, jnp.asarray(images.labels)]
        return cls(*placed)


def evaluate(inputs: Inputs, state: TrainState, frozen: Frozen) -> dict[str, float]:
    """Accuracy (percent) and mean loss (nats) on the test images, running statistics in use.

    The last batch is padded and the padding weighed with 0, so that one shape is compiled.
    """
    total = len(inputs.test_labels)
    size = min(inputs.test_program.settings.eval_batch_size, total)
    sums = Metrics.zero()
    with _bar(total, "testing", leave=False) as bar:
        for start in range(0, total, size):
            rows = np.minimum(np.arange(start, start + size), total - 1)
            weights = np.arange(start, start + size) < total
            batch = inputs.test[rows], inputs.test_labels[rows], weights
            sums = sums.add(evaluate_batch(inputs.test_program, state, frozen, *batch))
            bar.update(int(weights.sum()))
    return _means(sums)


def _means(sums: Metrics) -> dict[str, float]:
    count = int(sums.count)
    return {"loss": float(sums.loss) / count, "accuracy": 100 * int(sums.correct) / count}


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


# ---- Rows and progress -------------------------------------------------------------------------


def _row(
    job: Job,
    epoch: int,
    test: Mapping[str, float],
    train: Mapping[str, float],
    seconds: float,
    method: str = "transfer",
) -> dict[str, Any]:
    experiment = job.experiment
    return {
        "run": job.run,
        "task": experiment.task,
        "method": method,
        "source": experiment.source.checkpoint,
        "source_sha256": job.network.provenance.get("sha256"),
        "architecture": job.network.architecture.name,
        "dataset": experiment.target.dataset,
        "data_order": job.data_order,
        "num_classes": job.program.architecture.num_classes,
        "num_images": len(job.train),
        "num_test_images": len(job.test),
        "image_size": experiment.target.image_size,
        "blocks": experiment.transfer.blocks,
        "frozen_batch_norm": experiment.transfer.frozen_batch_norm,
        "seed": experiment.seed,
        "epoch": epoch,
        "epochs": job.program.epochs,
        "accuracy": test["accuracy"],
        "loss": test["loss"],
        "train_accuracy": train["accuracy"],
        "train_loss": train["loss"],
        "seconds": seconds,
        "config": results.as_json(experiment.to_dict()),
        "versions": results.as_json(results.versions()),
        "time": results.now(),
        "schema_version": results.SCHEMA_VERSION,
        **devices.describe(),
    }


def _baseline_row(job: Job) -> dict[str, Any]:
    started = time.monotonic()
    measured = linear_pixels(job.train, job.test)
    train = {name: measured[f"train_{name}"] for name in ("accuracy", "loss")}
    seconds = time.monotonic() - started
    return _row(job, job.program.epochs, measured, train, seconds, method="linear_pixels")


def _bar(total: int, what: str, leave: bool = False) -> tqdm:
    return tqdm(total=total, desc=what, unit="img", leave=leave, dynamic_ncols=True)


def _epoch_bar(job: Job, done: int) -> tqdm:
    images = len(job.train)
    bar = tqdm(
        total=images * job.program.epochs,
        initial=images * done,
        desc="fine-tuning",
        unit="img",
        dynamic_ncols=True,
    )
    return bar


def _postfix(train: Mapping[str, float], test: Mapping[str, float] | None) -> dict[str, str]:
    shown = {"loss": f"{train['loss']:.3g}", "acc": f"{train['accuracy']:.1f}%"}
    return shown | ({"test": f"{test['accuracy']:.2f}%"} if test else {})
