"""TensorBoard: event files in WORKDIR/tensorboard/RUN, written by tensorboardX."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from rtl_jax.lab.trackers.measures import measures


def log_run(
    workdir: epath.Path, run: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write a run's measures by epoch, replacing those of an earlier call."""
    from tensorboardX import SummaryWriter

    directory = workdir / "tensorboard" / run
    for older in directory.glob("events.out.tfevents.*") if directory.exists() else ():
        older.unlink()
    with SummaryWriter(str(directory)) as writer:
        for epoch, found in measures(rows):
            for name, value in found.items():
                writer.add_scalar(name, value, epoch)
