"""Settings of the training of a source."""

import dataclasses
import typing
from typing import Literal

from rtl_jax.errors import require, require_choice
from rtl_jax.runtime import limits
from rtl_jax.runtime.precision import Precision


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """How a source is trained, naturally or robustly (paper, sections 3.1 and 7, A.2 and A.10)."""

    # What training images are changed by: nothing, PGD's search, or noise.
    perturbation: Literal["none", "pgd", "gaussian"] = "none"
    norm: Literal["linf", "l2"] = "l2"
    eps: float = 3.0  # the radius, for pixels in [0, 1]
    steps: int = 20
    relative_step: float = 2.5  # c: a step is c * eps / steps
    random_start: bool = False
    # Of all iterates, that of the highest loss (as the paper's sources were trained), or the last.
    keep: Literal["loss", "last"] = "loss"
    sigma: float = 1.0  # of Gaussian noise, before it is brought into the ball
    epochs: int = 90
    batch_size: int = 128  # over all devices and hosts; an epoch's last, partial batch is left out
    # 'step' drops the rate as the paper does; 'one_cycle' raises it to `learning_rate` during the
    # share `warm_up` of all steps and then lowers it to nothing, both along a cosine.
    schedule: Literal["step", "one_cycle"] = "step"
    learning_rate: float = 0.1
    learning_rate_drop: float = 0.1  # the factor of each drop
    drop_every: int | None = None  # epochs between drops; none: epochs // 3
    warm_up: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 1e-4  # on everything
    label_smoothing: float = 0.0  # the share of a label's probability that all classes divide
    # The decay per step of the averaged weights, which then are what is measured and kept.
    average_decay: float | None = None
    eval_every: int = 1  # epochs between evaluations; the last one is always evaluated
    eval_batch_size: int = 128
    # Validation images attacked at each evaluation, as the group `attack` says; 0: none.
    num_attacked: int = 512
    precision: Precision = "float32"  # tf32 and bfloat16 are for accelerators
    # Sets that take more than this when decoded are streamed from their files, not kept.
    memory_mib: int = 8192
    decoding_threads: int = 16  # of a streamed set, on each host
    checkpoint_seconds: float = 300.0  # of work that a kill may cost

    def __post_init__(self) -> None:
        for field in ("perturbation", "norm", "keep", "schedule", "precision"):
            hint = typing.get_type_hints(type(self))[field]
            require_choice(getattr(self, field), hint, f"pretraining.{field}")
        for field in ("steps", "epochs", "batch_size", "eval_every", "eval_batch_size",
                      "decoding_threads", "relative_step", "sigma", "learning_rate",
                      "learning_rate_drop"):  # fmt: skip
            value = getattr(self, field)
            good = 0 < value < float("inf")
            require(good, f"pretraining.{field}", "a positive number", value)
        for field in ("eps", "weight_decay", "num_attacked", "memory_mib", "checkpoint_seconds"):
            value = getattr(self, field)
            require(0 <= value < float("inf"), f"pretraining.{field}", "0 or more", value)
        limits.require_within(
            self,
            "pretraining",
            eps=limits.RADIUS,
            steps=limits.STEPS,
            relative_step=limits.STEPS,
            sigma=limits.RADIUS,
            epochs=limits.EPOCHS,
            batch_size=limits.BATCH_SIZE,
            drop_every=limits.EPOCHS,
            eval_every=limits.EPOCHS,
            eval_batch_size=limits.BATCH_SIZE,
            num_attacked=limits.IMAGES,
            memory_mib=limits.MEBIBYTES,
            decoding_threads=limits.THREADS,
            checkpoint_seconds=limits.SECONDS,
        )
        for field in ("momentum", "label_smoothing", "average_decay"):
            value = getattr(self, field)
            good = value is None or 0 <= value < 1
            require(good, f"pretraining.{field}", "0 <= value < 1", value)
        require(0 < self.warm_up < 1, "pretraining.warm_up", "0 < share < 1", self.warm_up)
        every = self.drop_every
        require(every is None or every > 0, "pretraining.drop_every", "a positive number", every)

    def eval_epochs(self) -> list[int]:
        """The epochs, counted from 1, after which the validation images are looked at."""
        return sorted({*range(self.eval_every, self.epochs + 1, self.eval_every), self.epochs})
