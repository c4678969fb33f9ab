"""What a sweep keeps of its runs besides their rows, if asked for: networks and test logits."""

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from rtl_jax.lab.config import Sweep
from rtl_jax.lab.finetune.job import Job
from rtl_jax.models.network import Network
from rtl_jax.models.storage import network_path
from rtl_jax.runtime.paths import complete_or_absent
from rtl_jax.train.step import TrainState
from rtl_jax.train.trainer import Training


def keeps(run: str, sweep: Sweep, workdir: epath.PathLike) -> bool:
    """Whether a run with rows has also left the network and logits that this sweep keeps."""
    if sweep.keep_networks and not network_path(workdir, run).exists():
        return False
    path = logits_path(workdir, run)
    if sweep.keep_every_logits:
        return path.exists() and has_every_evaluation(path)
    return path.exists() or not sweep.keep_logits


def save_networks(
    jobs: Sequence[Job], training: Training, state: TrainState, workdir: epath.PathLike
) -> None:
    """Write each seed's network to WORKDIR/runs/RUN/network."""
    for index, job in enumerate(jobs):
        directory = network_path(workdir, job.run)
        if not directory.exists():
            variables = training.variables(state, index)
            provenance = training.provenance(job, index)
            Network(job.network.architecture, *variables, provenance).save(directory)


def save_logits(
    jobs: Sequence[Job],
    logits: np.ndarray,
    by_epoch: Mapping[int, np.ndarray] | None,
    workdir: epath.PathLike,
) -> None:
    """Write each seed's logits, of [S, M, C], to WORKDIR/runs/RUN/logits.npz.

    `by_epoch`, if given, adds those of every evaluation. Without it, logits that a run has left
    stay: it is repeated for its network, and they may be of every evaluation.
    """
    for seed, job in enumerate(jobs):
        path = logits_path(workdir, job.run)
        if by_epoch is None and path.exists():
            continue
        arrays = {"rows": job.test_indices, "labels": job.test_images.labels}
        arrays["logits"] = logits[seed]
        if by_epoch is not None:
            arrays["epochs"] = np.array(list(by_epoch))
            arrays["logits_by_epoch"] = np.stack([each[seed] for each in by_epoch.values()])
        with complete_or_absent(path, replace=True) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def has_every_evaluation(path: epath.Path) -> bool:
    """Whether a run's logits include those of every evaluation; True if they are unreadable."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return "epochs" in arrays
    except (OSError, ValueError, EOFError):
        return True  # damaged: reported on reading them


def logits_path(workdir: epath.PathLike, run: str) -> epath.Path:
    """Return where `sweep.keep_logits` stores a run's rows [M], labels [M] and logits [M, C].

    `sweep.keep_every_logits` adds epochs [E] and logits_by_epoch [E, M, C].
    """
    return epath.Path(workdir) / "runs" / run / "logits.npz"
