"""Settings of the training of a source."""

import dataclasses
from typing import ClassVar

from rtl_jax.errors import require
from rtl_jax.runtime import limits
from rtl_jax.train.settings import TrainingSettings


@dataclasses.dataclass(frozen=True)
class Pretraining(TrainingSettings):
    """How a source is trained, naturally or robustly (paper, sections 3.1 and 7, A.2 and A.10).

    Everything trains. A batch is one over all devices and hosts, and an epoch's last, partial batch
    is left out. What is attacked at each evaluation are validation images.
    """

    GROUP: ClassVar[str] = "pretraining"

    epochs: int = 90  # Number of epochs
    weight_decay: float = 1e-4  # Weight decay of all parameters
    eval_every: int = 1  # Epochs between evaluations; the last epoch is always evaluated
    num_attacked: int = 512  # Number of validation images attacked at each evaluation; 0: none
    # Decoded size above which a data set is streamed from its files instead of kept in memory
    memory_mib: int = 8192
    # Threads that decode a streamed data set, in each process; none: one per core, 2 to 16
    decoding_threads: int | None = None
    # Further processes on each host that decode it; 0: only the threads of the main one
    decoding_processes: int = 0
    # Seconds between checkpoints, and so the most work that is lost when a run is killed
    checkpoint_seconds: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("epochs", "eval_every", "decoding_threads"):
            value = getattr(self, field)
            good = value is None or value > 0
            require(good, f"pretraining.{field}", "a positive number", value)
        for field in ("memory_mib", "decoding_processes"):
            value = getattr(self, field)
            require(value >= 0, f"pretraining.{field}", "0 or more", value)
        limits.require_within(
            self,
            "pretraining",
            epochs=limits.EPOCHS,
            eval_every=limits.EPOCHS,
            memory_mib=limits.MEBIBYTES,
            decoding_threads=limits.THREADS,
            decoding_processes=limits.THREADS,
        )

    def eval_epochs(self) -> list[int]:
        """Return the epochs, counted from 1, after which to evaluate the validation images."""
        return sorted({*range(self.eval_every, self.epochs + 1, self.eval_every), self.epochs})
