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


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How weights are changed: on which images, along which gradient, by which optimizer."""

    # The settings' group, as messages call them.
    GROUP: ClassVar[str] = "training"

    # ---- Descent ----
    # 'sgd' is torch's, with momentum and weight decay in the gradient; any other is optax's of that
    # name, such as 'adamw', with its own defaults but for `optimizer_options`.
    optimizer: str = "sgd"
    optimizer_options: tuple[str, ...] = ()  # of one of optax's: b1=0.8,b2=0.9
    learning_rate: float = 0.1  # of a schedule, the highest
    momentum: float = 0.9  # of 'sgd'
    weight_decay: float = 5e-4  # on all that is trained
    # The rate over all steps. 'step' drops it as the paper does, 'one_cycle' raises it from a 25th
    # during the share `warm_up` of all steps and then lowers it to nothing, both along a cosine;
    # 'cosine' and 'linear' lower it to nothing, 'constant' leaves it. Any other is optax's of that
    # name, such as 'exponential_decay', with `schedule_options`.
    schedule: str = "step"
    schedule_options: tuple[str, ...] = ()  # of one of optax's: decay_rate=0.5
    # The epochs that the schedule spans, where training ends before it does. None: all that train.
    schedule_epochs: int | None = None
    learning_rate_drop: float = 0.1  # of 'step': the factor of each drop
    drop_every: int | None = None  # of 'step': epochs between drops; none: epochs // 3
    warm_up: float = 0.3  # of 'one_cycle'
    warm_up_epochs: float = 0.0  # of all others: the rate rises linearly in these
    clip_norm: float | None = None  # the most that the whole gradient's L2 norm may be
    layer_decay: float = 1.0  # the rate's factor from each block to the one before it
    label_smoothing: float = 0.0  # the share of a label's probability that all classes divide
    # Mixup (Zhang et al., 2018): each batch is mixed with itself in another order, and the loss of
    # its labels, too, in shares that are drawn from Beta(mixup, mixup). None: it is not.
    mixup: float | None = None
    # RandAugment (Cubuk et al., 2020): this many of its operations change each image, after the
    # group `augmentation`. See data.randaugment.
    randaugment: int = 0
    randaugment_magnitude: int = 9  # of RandAugment's operations, 0 to 30
    # The network that is measured and kept is an exponential average of the weights with this decay
    # per step. None: the last one.
    average_decay: float | None = None
    # It is their mean over all steps from this epoch on (SWA). None: the last one.
    average_from: int | None = None

    # ---- What training images are changed by ----
    # Nothing, an attack's search (in frequencies: 'fourier'), or noise.
    perturbation: PerturbationName = "none"
    norm: Literal["linf", "l2"] = "l2"  # of the ball that training images stay in
    eps: float = 3.0  # the radius, for pixels in [0, 1]
    steps: int = 20  # of 'pgd' and 'fourier'
    relative_step: float = 2.5  # c: a step of 'pgd' or 'fourier' is c * eps / steps
    random_start: bool = False  # of the search, in the ball, where it would start from the image
    # Which iterate is trained on: that of the highest loss (as the paper's sources), or the last.
    keep: Keep = "loss"
    sigma: float = 1.0  # of Gaussian noise, before it is brought into the ball
    low_frequency: float = 0.0  # of 'fourier', as attack.low_frequency
    high_frequency: float = 0.25  # of 'fourier', as attack.high_frequency
    budget: Budget = "flat"  # of 'fourier', as attack.budget
    budget_weights: tuple[float, ...] = ()  # of 'fourier', as attack.budget_weights
    # With TRADES (Zhang et al., 2019) the loss is the cross-entropy of the images as they are, and
    # beta times the divergence from their prediction to that of the perturbed ones. None: the
    # cross-entropy of the perturbed ones (Madry et al., 2018; the paper's equation 1).
    beta: float | None = None

    # ---- Course ----
    batch_size: int = 128  # images in a step
    eval_batch_size: int = 128  # images evaluated at once
    # Test images attacked at each evaluation, as the group `attack` says; 0: none.
    num_attacked: int = 0
    precision: Precision = "float32"  # tf32 and bfloat16 are for accelerators
    checkpoint_seconds: float = 60.0  # of work that a kill may cost

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
