"""Settings shared by all trainings, fine-tuning and pretraining alike.

Importing this module does not import JAX.
"""

import dataclasses
from typing import Any, ClassVar, Literal

from rtl_jax.errors import require
from rtl_jax.runtime import limits
from rtl_jax.runtime.frequencies import Budget, require_frequencies
from rtl_jax.runtime.hints import require_choices
from rtl_jax.runtime.precision import Precision

Keep = Literal["loss", "last"]
PerturbationName = Literal["none", "pgd", "fourier", "gaussian"]

# The settings that only matter with a perturbation, and those of them that are for 'fourier'.
FREQUENCY_FIELDS = ("low_frequency", "high_frequency", "budget", "budget_weights")
PERTURBATION_FIELDS = (
    "norm",
    "eps",
    "steps",
    "relative_step",
    "random_start",
    "keep",
    "sigma",
    *FREQUENCY_FIELDS,
)


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Settings of the optimizer, the perturbation of training images, and the training loop."""

    # The settings' group, as messages call them.
    GROUP: ClassVar[str] = "training"

    # ---- Optimization ----
    # 'sgd' is torch's SGD, with momentum and weight decay added to the gradient. Any other name is
    # an optimizer of optax, such as 'adamw', with optax's defaults unless `optimizer_options`
    # changes them.
    optimizer: str = "sgd"
    # Arguments of an optax optimizer, such as b1=0.8,b2=0.9
    optimizer_options: tuple[str, ...] = ()
    learning_rate: float = 0.1  # Learning rate; with a schedule, its peak
    momentum: float = 0.9  # Momentum of 'sgd'
    weight_decay: float = 5e-4  # Weight decay of all trained parameters
    # Learning-rate schedule. 'step' drops the rate as in the paper; 'one_cycle' warms up from 1/25
    # of it over the fraction `warm_up` of all steps, then anneals to zero, both along a cosine;
    # 'cosine' and 'linear' decay to zero; 'constant' keeps it. Any other name is a schedule of
    # optax, such as 'exponential_decay', with `schedule_options`.
    schedule: str = "step"
    schedule_options: tuple[str, ...] = ()  # Arguments of an optax schedule, such as decay_rate=0.5
    # Number of epochs that the schedule covers, if training stops before its end; none: all of them
    schedule_epochs: int | None = None
    learning_rate_drop: float = 0.1  # Factor of each drop of 'step'
    drop_every: int | None = None  # Epochs between drops of 'step'; none: a third of all epochs
    warm_up: float = 0.3  # Fraction of steps in which 'one_cycle' raises the rate
    warm_up_epochs: float = 0.0  # Epochs of linear warm-up, with every schedule except 'one_cycle'
    # Maximum L2 norm of the gradient of all parameters together; none: no clipping
    clip_norm: float | None = None
    layer_decay: float = 1.0  # Factor of the learning rate from each block to the one before it
    # Fraction of the label's probability that is spread over all classes
    label_smoothing: float = 0.0
    # Parameter of Mixup (Zhang et al., 2018): images and losses of a batch are mixed with those of
    # the same batch in another order, with weights drawn from Beta(mixup, mixup); none: no Mixup
    mixup: float | None = None
    # Number of RandAugment operations applied to each image after `augmentation` (Cubuk et al.,
    # 2020); 0: none
    randaugment: int = 0
    randaugment_magnitude: int = 9  # Magnitude of RandAugment operations, 0 to 30
    # Evaluate and keep an exponential moving average of the weights, with this decay per step;
    # none: the last weights
    average_decay: float | None = None
    # Evaluate and keep the mean of the weights over all steps from this epoch on (SWA); none: the
    # last weights
    average_from: int | None = None

    # ---- Perturbation of training images ----
    # What perturbs training images: nothing, PGD, PGD limited in frequency ('fourier'), or Gaussian
    # noise
    perturbation: PerturbationName = "none"
    norm: Literal["linf", "l2"] = "l2"  # Norm of the ball that perturbed images stay in
    eps: float = 3.0  # Radius of the ball, for pixels in [0, 1]
    steps: int = 20  # Number of steps of 'pgd' and 'fourier'
    # Step size c of 'pgd' and 'fourier': a step has length c * eps / steps
    relative_step: float = 2.5
    random_start: bool = False  # Start from a random point of the ball instead of the image
    # Which iterate to train on: the one with the highest loss, as for the paper's sources, or the
    # last
    keep: Keep = "loss"
    sigma: float = 1.0  # Standard deviation of Gaussian noise, before projection onto the ball
    low_frequency: float = 0.0  # Of 'fourier', as attack.low_frequency
    high_frequency: float = 0.25  # Of 'fourier', as attack.high_frequency
    budget: Budget = "flat"  # Of 'fourier', as attack.budget
    budget_weights: tuple[float, ...] = ()  # Of 'fourier', as attack.budget_weights
    # Weight of the divergence between predictions for clean and perturbed images in TRADES (Zhang
    # et al., 2019); none: the cross-entropy of perturbed images (Madry et al., 2018; the paper's
    # equation 1)
    beta: float | None = None

    # ---- Loop ----
    batch_size: int = 128  # Images per training step
    eval_batch_size: int = 128  # Images per evaluation step
    # Number of test images attacked at each evaluation, with the settings of `attack`; 0: none
    num_attacked: int = 0
    # Precision of matrix products; tf32 and bfloat16 are for accelerators
    precision: Precision = "float32"
    # Seconds between checkpoints, and so the most work that is lost when a run is killed
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        require_choices(self, self.GROUP, "perturbation", "norm", "keep", "precision")
        for field in ("batch_size", "eval_batch_size", "steps", "learning_rate", "sigma",
                      "learning_rate_drop", "relative_step", "clip_norm", "drop_every",
                      "average_from", "schedule_epochs", "mixup"):  # fmt: skip
            value = getattr(self, field)
            good = value is None or 0 < value < float("inf")
            self._require(good, field, "a positive number")
        for field in ("weight_decay", "eps", "beta", "num_attacked", "checkpoint_seconds",
                      "warm_up_epochs", "randaugment"):  # fmt: skip
            value = getattr(self, field)
            self._require(value is None or 0 <= value < float("inf"), field, "0 or more")
        for field in ("momentum", "label_smoothing", "average_decay"):
            value = getattr(self, field)
            self._require(value is None or 0 <= value < 1, field, "0 <= value < 1")
        for field in ("optimizer", "schedule"):
            self._require(bool(getattr(self, field)), field, "a name")
        self._require(0 < self.layer_decay <= 1, "layer_decay", "0 < value <= 1")
        self._require(0 < self.warm_up < 1, "warm_up", "0 < share < 1")
        self._require(0 <= self.randaugment_magnitude <= 30, "randaugment_magnitude", "0 to 30")
        self._require_combinations()
        limits.require_within(
            self,
            self.GROUP,
            batch_size=limits.BATCH_SIZE,
            eval_batch_size=limits.BATCH_SIZE,
            drop_every=limits.EPOCHS,
            warm_up_epochs=limits.EPOCHS,
            average_from=limits.EPOCHS,
            schedule_epochs=limits.EPOCHS,
            steps=limits.STEPS,
            relative_step=limits.STEPS,
            eps=limits.RADIUS,
            sigma=limits.RADIUS,
            num_attacked=limits.IMAGES,
            mixup=limits.RADIUS,
            randaugment=limits.OPERATIONS,
            checkpoint_seconds=limits.SECONDS,
        )

    def _require(self, good: bool, field: str, expected: str) -> None:
        require(good, f"{self.GROUP}.{field}", expected, getattr(self, field))

    def _require_combinations(self) -> None:
        both = self.average_decay is not None and self.average_from is not None
        self._require(not both, "average_from", "none with average_decay")
        in_l2 = self.perturbation != "fourier" or self.norm == "l2"
        self._require(in_l2, "norm", "'l2' with the perturbation 'fourier'")
        require_frequencies(self, f"{self.GROUP}.")
        if self.perturbs:
            limits.require_pixel_units(self.norm, self.eps, f"{self.GROUP}.eps")
        searched = self.beta is None or self.perturbation == "pgd"
        self._require(searched, "beta", "none but with the perturbation 'pgd'")
        # An attack needs a single label per image.
        alone = self.mixup is None or not self.perturbs
        self._require(alone, "mixup", f"none with {self.GROUP}.perturbation={self.perturbation}")
        for field in ("optimizer_options", "schedule_options"):
            self._require(all("=" in one for one in getattr(self, field)), field, "NAME=NUMBER,...")

    @property
    def perturbs(self) -> bool:
        """Whether training images are perturbed."""
        return self.perturbation != "none"

    @property
    def draws_anew(self) -> bool:
        """Whether images change randomly in every step, apart from the group `augmentation`."""
        return self.mixup is not None or self.randaugment > 0

    def replace(self, **changes: Any) -> Any:
        """Return the same settings with some changed."""
        return dataclasses.replace(self, **changes)
