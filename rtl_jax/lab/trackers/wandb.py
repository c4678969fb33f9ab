"""Weights & Biases: one W&B run for each run; its environment variables set project and account."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from rtl_jax.lab.trackers.measures import flat, measures


def log_run(
    workdir: epath.Path, run: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Send a run's settings, and its measures by epoch, under the run's own name."""
    import wandb

    with wandb.init(
        id=run,
        name=f"{settings['source']['checkpoint']} on {settings['target']['dataset']} {run[:6]}",
        group=settings["task"],
        config=flat(settings),
        dir=str(workdir),
        resume="allow",
        reinit="finish_previous",
    ) as one:
        steps: dict[int, dict[str, float]] = {}
        for epoch, found in measures(rows):
            steps.setdefault(epoch, {}).update(found)
        # Steps must increase: values for earlier ones are dropped.
        for epoch in sorted(steps):
            one.log({"epoch": epoch, **steps[epoch]}, step=epoch)
