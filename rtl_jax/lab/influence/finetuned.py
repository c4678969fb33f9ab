"""The network to be explained, and exactly the images that it was fine-tuned on."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import jax
import numpy as np
from etils import epath

from rtl_jax.data import ImageSet
from rtl_jax.errors import UserError
from rtl_jax.influence_functions.head import Examples, Head
from rtl_jax.influence_functions.of_network import bias_is_damped, damping_of, head_of
from rtl_jax.lab import config, results
from rtl_jax.lab.config import Experiment, freeze
from rtl_jax.lab.finetune.job import Job, prepare
from rtl_jax.lab.finetune.task import finetune_job
from rtl_jax.models.network import Network
from rtl_jax.models.sources import load_source
from rtl_jax.models.storage import is_network, network_path
from rtl_jax.runtime import devices
from rtl_jax.runtime.progress import bar
from rtl_jax.train.features import prefix_features
from rtl_jax.train.split import SplitNetwork


@dataclasses.dataclass(frozen=True, eq=False)
class Finetuned:
    """A finished fine-tuning: `job` has its settings and images, `network` its variables."""

    job: Job
    network: Network

    @property
    def name(self) -> str:
        """A short name of its source, for figures and files."""
        checkpoint = self.job.experiment.source.checkpoint
        last = PurePath(checkpoint.removeprefix("bundled:")).stem
        return re.sub(r"[^\w.-]+", "_", last) or "source"

    def features(self, images: ImageSet, blocks: int | None, what: str) -> np.ndarray:
        """Compute the input features of the last `blocks` blocks and the head; 0: of the head.

        This uses the test transform, running statistics and full float32 precision.
        """
        settings = self.job.experiment
        split = SplitNetwork(
            self.network.architecture, blocks, "source", settings.target.image_size
        )
        params, batch_stats = jax.device_put(
            (dict(self.network.params), dict(self.network.batch_stats))
        )
        parts = []
        size = settings.transfer.eval_batch_size
        with devices.matmul_precision("float32"), bar(what, len(images)) as progress:
            rows = np.arange(len(images))
            for part in prefix_features(split, params, batch_stats, images.images, rows, size):
                parts.append(np.asarray(part))
                progress.update(len(part))
        return np.concatenate(parts)

    @property
    def head(self) -> Head:
        """The network's last layer."""
        return head_of(self.network)

    def examples(self, images: ImageSet, what: str) -> Examples:
        """Return the images as the head sees them."""
        return self.head.examples(self.features(images, 0, what), images.labels)

    def row(self, experiment: Experiment, run: str, method: str, **columns: Any) -> dict[str, Any]:
        """Return a row of the task's results, with the settings of this fine-tuning."""
        tuned = self.job.experiment
        groups = {name: getattr(tuned, name) for name in (*config.GROUPS["finetune"], "seed")}
        return results.row(
            dataclasses.replace(experiment, **groups),
            run=run,
            method=method,
            data_order=self.job.dataset.order,
            num_images=len(self.job.train_indices),
            num_test_images=len(self.job.test_indices),
            blocks=tuned.transfer.blocks,
            frozen_batch_norm=tuned.transfer.frozen_batch_norm,
            **self.network.columns(),
            **columns,
            **devices.describe(),
        )


METHOD = ("curvature", "hessian", "solver", "damping", "cutoff", "cutoff_kind", "tolerance")


def method(settings: config.Influence, network: Network) -> dict[str, Any]:
    """Return the arguments of `solver_for` for the head of a network."""
    found = {name: getattr(settings, name) for name in (*METHOD, "batch_size", "memory_gib")}
    more = {"damping": damping(settings, network), "damp_bias": bias_is_damped(network)}
    return {**found, **more}


def recorded(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments from `method` that change scores."""
    return {name: chosen[name] for name in (*METHOD, "damp_bias")}


def damping(settings: config.Influence, network: Network) -> float:
    """Return `influence.damping` or, without it, what fits the network's head."""
    return damping_of(network) if settings.damping is None else settings.damping


def with_damping(experiment: Experiment, found: Sequence[Finetuned]) -> Experiment:
    """Fill in `influence.damping`, unless it is set or the networks need different ones."""
    needed = {damping_of(one.network) for one in found}
    if experiment.influence.damping is not None or len(needed) > 1:
        return experiment
    chosen = dataclasses.replace(experiment.influence, damping=needed.pop())
    return dataclasses.replace(experiment, influence=chosen)


def name_run(experiment: Experiment, found: Sequence[Finetuned]) -> str:
    """Return a run's name, from its settings and the networks and images explained."""
    return experiment.fingerprint(
        runs=[one.job.run for one in found],
        networks=[one.network.digest for one in found],
    )


def explained(experiment: Experiment, workdir: epath.Path) -> list[Finetuned]:
    """Return the networks that the settings name, fine-tuning those that `workdir` lacks.

    The first is `influence.run` or, without it, fine-tuned by `source`, `target`, `augmentation`
    and `transfer`; with `influence.compare`, a second one differs in the source alone. Raises
    UserError if the data or source have changed since a run was fine-tuned.
    """
    chosen = experiment.influence
    if chosen.run is None:
        found = [of_settings(dataclasses.replace(experiment, task="finetune"), workdir)]
    else:
        found = [_of_run(chosen.run)]
    if chosen.compare is not None:
        first = found[0].job.experiment
        other = dataclasses.replace(first.source, checkpoint=chosen.compare)
        found.append(of_settings(dataclasses.replace(first, source=other), workdir))
        if found[0].name == found[1].name:
            raise UserError(
                f"influence.compare: expected a source of another name than {found[0].name!r}, "
                f"received {chosen.compare!r}"
            )
    return found


def of_settings(settings: Experiment, workdir: epath.Path) -> Finetuned:
    """Return the fine-tuning in `workdir` with these settings, or a new one."""
    job = prepare(settings)
    if not is_network(network_path(workdir, job.run)):
        _require_no_older(settings, workdir)
    return of_job(job, workdir)


def of_job(job: Job, workdir: epath.Path) -> Finetuned:
    """Return the fine-tuning in `workdir` of a job, or a new one."""
    directory = network_path(workdir, job.run)
    if is_network(directory):
        print(f"explaining run {job.run}: {job.describe()}")
    else:
        finetune_job(job, workdir)
    return Finetuned(job, Network.load(directory))


def _of_run(run: str) -> Finetuned:
    """Load a finished fine-tuning by its work directory or its network's."""
    network = load_source(run)
    provenance = network.provenance
    if provenance.get("kind") != "fine-tuned":
        raise UserError(
            f"influence.run: expected a network that rtl_jax fine-tuned, and {run} is "
            f"{provenance.get('kind', 'of another kind')!r}: name the work directory of a "
            "finished run, or leave it empty and set source.checkpoint"
        )
    if not {"settings", "run"} <= provenance.keys():
        raise UserError(
            f"influence.run: {run} was fine-tuned from Python and does not name "
            "its images: explain it there, with rtl_jax.influence"
        )
    job = prepare(freeze(provenance["settings"]))
    if job.run != provenance["run"]:
        raise _changed(f"{run} was fine-tuned as run {provenance['run']}", job.experiment)
    print(f"explaining run {job.run}: {job.describe()}")
    return Finetuned(job, network)


def _require_no_older(settings: Experiment, workdir: epath.Path) -> None:
    """Raise UserError if `workdir` holds a run of these settings on other images."""
    for directory in workdir.glob("runs/*/network"):
        provenance = Network.load(directory).provenance
        try:
            older = freeze(provenance["settings"])
        except (KeyError, UserError):  # another version's settings, so different ones
            continue
        # Label noise changes the data under the same settings, and is recorded in them.
        noise = older.influence.flip_labels
        if not noise and older.fingerprint() == settings.fingerprint():
            raise _changed(f"{directory} was fine-tuned with these settings", settings)


def _changed(what: str, settings: Experiment) -> UserError:
    return UserError(
        f"{what}, but {settings.target.dataset} or {settings.source.checkpoint} has changed since: "
        "its training images are no longer known. Restore what changed, or choose another "
        "--workdir to fine-tune anew"
    )
