"""What a job of a sweep asks Slurm for."""

import dataclasses
from typing import Literal

from rtl_jax.errors import require, require_choice
from rtl_jax.runtime import limits

Cluster = Literal["slurm", "local"]


@dataclasses.dataclass(frozen=True)
class Slurm:
    """Resources of each job with `executor=slurm`; sbatch's own variables apply too."""

    # Where jobs run; local: all at once, each a process here, to try a sweep without Slurm.
    cluster: Cluster = "slurm"
    partition: str | None = None  # none: the cluster's default
    account: str | None = None  # that is charged; none: the user's default
    minutes: int = 1440  # after which Slurm ends the job
    gpus: int = 1  # of a job
    cpus: int = 8  # cores of a job
    memory_gib: int = 32  # of the host, for a job
    at_once: int = 64  # jobs of the sweep that run at the same time

    def __post_init__(self) -> None:
        require_choice(self.cluster, Cluster, "slurm.cluster")
        for name in ("partition", "account"):
            value = getattr(self, name)
            require(value is None or bool(value), f"slurm.{name}", "a name or none", value)
        for name in ("minutes", "cpus", "memory_gib", "at_once"):
            value = getattr(self, name)
            require(value > 0, f"slurm.{name}", "a positive number", value)
        require(self.gpus >= 0, "slurm.gpus", "a number of 0 or more", self.gpus)
        limits.require_within(
            self,
            "slurm",
            **dict.fromkeys(("minutes", "gpus", "cpus", "memory_gib", "at_once"), limits.RUNS),
        )
