"""Settings of the Slurm jobs of a sweep."""

import dataclasses
from typing import Literal

from rtl_jax.errors import require, require_choice
from rtl_jax.runtime import limits

Cluster = Literal["slurm", "local"]


@dataclasses.dataclass(frozen=True)
class Slurm:
    """Resources of each job with `executor=slurm`; sbatch's environment variables also apply."""

    # Where jobs run; 'local': all at once as processes of this machine, to try a sweep without
    # Slurm
    cluster: Cluster = "slurm"
    partition: str | None = None  # Partition; none: the cluster's default
    account: str | None = None  # Account to charge; none: the user's default
    minutes: int = 1440  # Time limit of a job
    gpus: int = 1  # GPUs per job
    cpus: int = 8  # Cores per job
    memory_gib: int = 32  # Host memory per job
    at_once: int = 64  # Number of jobs that run at the same time

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
