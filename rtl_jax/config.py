"""Every setting of an experiment, its default and its check. The defaults are the paper's.

A config file's `get_config()` edits what `defaults()` returns; `freeze` turns the result,
with the command line's overrides, into the frozen dataclasses below. `None` is written
`none` on the command line. Importing this module imports neither JAX nor ml_collections.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from rtl_jax import settings
from rtl_jax.errors import UserError
from rtl_jax.settings import require, require_choice

if TYPE_CHECKING:
    from ml_collections import ConfigDict

FIRST_SEED = 20_000_000  # the authors' seeds are 20000000 + 100000 i

FrozenBatchNorm = Literal["batch", "source", "adapt"]
Precision = Literal["float32", "tf32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Source:
    """The network that transfer starts from."""

    # A converted directory, a work directory with one finished network, a torch file
    # (.pt .pth .ckpt .safetensors), hf:REPO/FILE, bundled:NAME, or random.
    checkpoint: str = "random"
    # The name of an architecture. With random it says what to build; with a checkpoint it
    # is a check, and empty means whatever the checkpoint holds.
    arch: str = ""
    # For random only: 'imagenet' (7x7, stride 2, pool) or 'small' (3x3, for about 32 px).
    stem: Literal["imagenet", "small"] = "imagenet"
    # For random only: blocks per stage and width of each stage; none: the architecture's own.
    stage_sizes: tuple[int, ...] | None = None
    stage_widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require(bool(self.checkpoint), "source.checkpoint", "a path or a name", self.checkpoint)
        require_choice(self.stem, Literal["imagenet", "small"], "source.stem")
        for name in ("stage_sizes", "stage_widths"):
            value = getattr(self, name)
            require(
                value is None or (len(value) > 0 and min(value) > 0),
                f"source.{name}",
                "positive whole numbers, one per stage, or none",
                value,
            )


@dataclasses.dataclass(frozen=True)
class Target:
    """The images to transfer to."""

    dataset: str = "digits"  # tfds:NAME, folder:PATH, npz:PATH or digits
    data_dir: str | None = None  # none: RTL_JAX_DATA_DIR, or ~/.cache/rtl_jax/data
    image_size: int = 224  # pixels, what the network sees
    num_images: int | None = None  # training images drawn by the seed; none: all
    num_test_images: int | None = None  # a fixed draw of the test set; none: all
    classes: tuple[int, ...] | None = None  # labels to keep, renumbered; none: all

    def __post_init__(self) -> None:
        require(bool(self.dataset), "target.dataset", "a data set", self.dataset)
        require(self.image_size >= 8, "target.image_size", "at least 8 pixels", self.image_size)
        for name in ("num_images", "num_test_images"):
            value = getattr(self, name)
            require(value is None or value > 0, f"target.{name}", "a positive number", value)
        classes = self.classes
        require(
            classes is None or (len(set(classes)) == len(classes) >= 2 and min(classes) >= 0),
            "target.classes",
            "two different labels or more, or none",
            classes,
        )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may be done to a training image; without arguments, nothing (see `PRESETS`)."""

    crop_padding: int = 0  # pixels of zeros on every side before a random crop of the old size
    flip: bool = False  # mirror left and right with probability 1/2
    brightness: float = 0.0  # v in [0, 1]: the factor is uniform in [1 - v, 1 + v]
    contrast: float = 0.0  # likewise
    saturation: float = 0.0  # likewise
    rotation: float = 0.0  # degrees d in [0, 180]: the angle is uniform in [-d, d]

    def __post_init__(self) -> None:
        padding = self.crop_padding
        whole = isinstance(padding, int) and not isinstance(padding, bool)
        expected = "whole pixels, 0 or more"
        require(whole and padding >= 0, "augmentation.crop_padding", expected, padding)
        boolean = isinstance(self.flip, bool)
        require(boolean, "augmentation.flip", "True or False", self.flip)
        for name, top in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("rotation", 180)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            expected = f"a number from 0 to {top}"
            require(number and 0 <= value <= top, f"augmentation.{name}", expected, value)

    @property
    def is_identity(self) -> bool:
        """Whether every image stays as it is, so that features can be kept."""
        return self == Augmentation()


PRESETS = {
    "none": Augmentation(),
    # The authors train on every one of their six data sets with this, digits included.
    "paper": Augmentation(
        crop_padding=4, flip=True, brightness=0.25, contrast=0.25, saturation=0.25, rotation=2.0
    ),
}


def augmentation(name: str) -> Augmentation:
    """The preset of that name. Raises UserError, listing the presets, if there is none."""
    require(name in PRESETS, "augmentation", f"one of {', '.join(PRESETS)}", name)
    return PRESETS[name]


@dataclasses.dataclass(frozen=True)
class Transfer:
    """How the network is fine-tuned (paper, section 3.2 and appendix A.4)."""

    blocks: int | None = 3  # the last residual blocks to train beside the head; none: everything
    # Statistics of the frozen blocks: 'batch' as the paper's code (train mode: batch statistics,
    # running ones drift), 'source' keeps the source's, 'adapt' re-estimates them once on the
    # training images and keeps those.
    frozen_batch_norm: FrozenBatchNorm = "batch"
    epochs: int | None = None  # none: 100 for up to 1,600 images, 150 above
    batch_size: int = 128  # the last, partial batch of an epoch is kept
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4  # on all that is trained
    learning_rate_drop: float = 0.1  # the factor of each drop
    drop_every: int | None = None  # epochs between drops; none: epochs // 3
    # The new head: 'normal' is the authors' (weights N(0, 1), bias 0), 'uniform' torch's own.
    head: Literal["normal", "uniform"] = "normal"
    eval_every: int | None = None  # epochs 1, 1 + n, ... and the last; none: 20, above 100 10
    eval_batch_size: int = 128
    precision: Precision = "float32"  # tf32 and bfloat16 are for accelerators
    # Features of frozen blocks are kept on the device while they take no more than this.
    feature_cache_mib: int = 2048
    checkpoint_seconds: float = 60.0  # of work that a kill may cost
    baseline: bool = False  # also fit a linear classifier on the raw pixels

    def __post_init__(self) -> None:
        require(
            self.blocks is None or self.blocks >= 0, "transfer.blocks", "0 or more", self.blocks
        )
        require_choice(self.frozen_batch_norm, FrozenBatchNorm, "transfer.frozen_batch_norm")
        require_choice(self.precision, Precision, "transfer.precision")
        require_choice(self.head, Literal["normal", "uniform"], "transfer.head")
        for name in ("epochs", "drop_every", "eval_every"):
            value = getattr(self, name)
            require(value is None or value > 0, f"transfer.{name}", "a positive number", value)
        for name in ("batch_size", "eval_batch_size"):
            value = getattr(self, name)
            require(value > 0, f"transfer.{name}", "a positive number", value)
        for name in ("learning_rate", "learning_rate_drop"):
            value = getattr(self, name)
            require(0 < value < float("inf"), f"transfer.{name}", "a positive number", value)
        for name in ("weight_decay", "checkpoint_seconds", "feature_cache_mib"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"transfer.{name}", "0 or more", value)
        require(0 <= self.momentum < 1, "transfer.momentum", "0 <= m < 1", self.momentum)

    def epochs_for(self, num_images: int) -> int:
        """Epochs of a training on so many images (paper, Table 4)."""
        return self.epochs or (100 if num_images <= 1600 else 150)

    def eval_epochs(self, epochs: int) -> list[int]:
        """The epochs, counted from 1, after which test accuracy is measured (paper, Table 4)."""
        every = self.eval_every or (20 if epochs <= 100 else 10)
        return sorted({*range(1, epochs + 1, every), epochs})


@dataclasses.dataclass(frozen=True)
class Attack:
    """How robustness is measured (paper, sections 3 and 7): PGD, or Gaussian noise."""

    method: Literal["pgd", "gaussian"] = "pgd"
    norm: Literal["linf", "l2"] = "linf"
    # Radii, for pixels in [0, 1]; 0 is accuracy without an attack.
    eps: tuple[float, ...] = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
    steps: int = 20
    relative_step: float = 2.5  # c: a step is c * eps / steps
    random_start: bool = False
    restarts: int = 1  # from random starts; an image must withstand all of them
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy"
    # Of all iterates, the best for each image, or the last, as most published figures have it.
    keep: Literal["best", "last"] = "best"
    sigma: float = 1.0  # of Gaussian noise, before it is brought into the ball
    batch_size: int = 64
    precision: Precision = "float32"
    num_shown: int = 8  # images in the figure; 0 draws none

    def __post_init__(self) -> None:
        for field in ("method", "norm", "loss", "keep", "precision"):
            hint = typing.get_type_hints(type(self))[field]
            require_choice(getattr(self, field), hint, f"attack.{field}")
        radii = len(self.eps) > 0 and all(0 <= eps < float("inf") for eps in self.eps)
        require(radii, "attack.eps", "one radius or more, each 0 or more", self.eps)
        unique = len(set(self.eps)) == len(self.eps)
        require(unique, "attack.eps", "different radii", self.eps)
        for field in ("steps", "restarts", "batch_size"):
            value = getattr(self, field)
            require(value > 0, f"attack.{field}", "a positive number", value)
        for field in ("relative_step", "sigma"):
            value = getattr(self, field)
            require(0 < value < float("inf"), f"attack.{field}", "a positive number", value)
        require(self.num_shown >= 0, "attack.num_shown", "0 or more", self.num_shown)
        searched = self.restarts == 1 or self.random_start
        require(searched, "attack.restarts", "1 without attack.random_start", self.restarts)


# The groups of settings that a task reads, beside `task` and `seed`.
GROUPS = {
    "finetune": ("source", "target", "augmentation", "transfer"),
    "attack": ("source", "target", "attack"),
}

Task = Literal["finetune", "attack"]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run of `run.py`."""

    task: Task = "finetune"
    source: Source = dataclasses.field(default_factory=Source)
    target: Target = dataclasses.field(default_factory=Target)
    augmentation: Augmentation = dataclasses.field(default_factory=lambda: PRESETS["paper"])
    transfer: Transfer = dataclasses.field(default_factory=Transfer)
    attack: Attack = dataclasses.field(default_factory=Attack)
    seed: int = FIRST_SEED  # of the subset, the head, the batches and the augmentation

    def __post_init__(self) -> None:
        require_choice(self.task, Task, "task")
        # JAX's keys are made of 32 bits: a larger seed would repeat a smaller one's.
        require(0 <= self.seed < 2**32, "seed", "a number from 0 to 2**32 - 1", self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionaries of every setting."""
        return dataclasses.asdict(self)

    def fingerprint(self, **extra: Any) -> str:
        """16 hex digits of sha256 over the settings that can change a result, and `extra`.

        Where data lie and how often checkpoints are written cannot, nor can the groups that the
        task does not read.
        """
        every = self.to_dict()
        read = {name: every[name] for name in ("task", "seed", *GROUPS[self.task])}
        for group, name in (("target", "data_dir"), ("transfer", "checkpoint_seconds")):
            read.get(group, {}).pop(name, None)
        text = json.dumps({"settings": read, "extra": extra}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def defaults() -> "ConfigDict":
    """All settings with their defaults, to be edited in a config file.

    An unknown name or a value of another type fails where it is written.
    """
    return settings.editable(Experiment())


def preset(name: str) -> "ConfigDict":
    """The augmentation settings of that name ('paper' or 'none'), for a config file."""
    return settings.editable(augmentation(name))


def freeze(config: Mapping[str, Any] | Experiment) -> Experiment:
    """Check a config and make it immutable; raise UserError naming the setting that is wrong."""
    if isinstance(config, Experiment):
        return config
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise UserError(f"get_config() must return a ConfigDict, received {type(config).__name__}")
    return settings.merge(Experiment(), config)


def expected(key: str) -> str:
    """What a setting such as 'transfer.blocks' takes, in words; UserError if there is none."""
    return settings.expected(Experiment, key)
