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
AttackName = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]
FeatureStore = Literal["auto", "device", "host", "disk", "none"]


@dataclasses.dataclass(frozen=True)
class Source:
    """The network that transfer starts from."""

    # A converted directory, a work directory with one finished network, a torch file
    # (.pt .pth .ckpt .safetensors), hf:REPO/FILE, bundled:NAME, or random.
    checkpoint: str = "random"
    # The name of an architecture. With random it says what to build; with a checkpoint it
    # is a check, and empty means whatever the checkpoint holds.
    arch: str = ""
    # For random only: 'imagenet' (7x7, stride 2, pool), or for images of about 32 px 'small'
    # (3x3, stride 1) or 'small_stride2' (3x3, stride 2).
    stem: Literal["imagenet", "small", "small_stride2"] = "imagenet"
    # For random only: blocks per stage and width of each stage; none: the architecture's own.
    stage_sizes: tuple[int, ...] | None = None
    stage_widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require(bool(self.checkpoint), "source.checkpoint", "a path or a name", self.checkpoint)
        require_choice(self.stem, typing.get_type_hints(type(self))["stem"], "source.stem")
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

    # tfds:NAME, folder:PATH, list:PATH, npz:PATH or digits, or several with +
    dataset: str = "digits"
    data_dir: str | None = None  # none: RTL_JAX_DATA_DIR, or ~/.cache/rtl_jax/data
    image_size: int = 224  # pixels, what the network sees
    num_images: int | None = None  # training images drawn by the seed; none: all
    num_test_images: int | None = None  # a fixed draw of the test set; none: all
    classes: tuple[int, ...] | None = None  # labels to keep, renumbered; none: all
    # Another set of the same classes, whose test images take the place of these; of a folder that
    # is not divided, every picture is one.
    test_dataset: str | None = None
    # Cross-validation: the training images are dealt into so many folds, every class evenly. One
    # of them, counted from 0, is tested on and the others train; none: all train, and are tested
    # on too.
    folds: int | None = None
    fold: int | None = None
    # What is done to all images, training and test (paper, Table 2): resized to so many pixels;
    # so many of the image_size x image_size frequencies of each channel, or such a share of them,
    # set to zero from the highest down.
    low_resolution: int | None = None
    low_pass: int | None = None
    low_pass_share: float | None = None

    def __post_init__(self) -> None:
        require(bool(self.dataset), "target.dataset", "a data set", self.dataset)
        other = self.test_dataset
        require(other != "", "target.test_dataset", "a data set, or none", other)
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
        folds, fold = self.folds, self.fold
        require(folds is None or folds >= 2, "target.folds", "2 or more, or none", folds)
        good = fold is None or (folds is not None and 0 <= fold < folds)
        require(good, "target.fold", "0 to target.folds - 1, or none", fold)
        good = folds is None or self.num_test_images is None
        require(good, "target.num_test_images", "none with target.folds", self.num_test_images)
        good = folds is None or other is None
        require(good, "target.test_dataset", "none with target.folds", other)
        self._check_variant()

    def _check_variant(self) -> None:
        pixels, count, share = self.low_resolution, self.low_pass, self.low_pass_share
        expected = f"1 to {self.image_size - 1} pixels, fewer than target.image_size, or none"
        good = pixels is None or 0 < pixels < self.image_size
        require(good, "target.low_resolution", expected, pixels)
        most = self.image_size**2 - 1  # the mean stays
        good = count is None or 0 < count <= most
        require(good, "target.low_pass", f"1 to {most} frequencies, or none", count)
        good = share is None or (0 < share < 1 and 0 < self.zeroed_frequencies <= most)
        require(good, "target.low_pass_share", f"a share of 1 to {most} frequencies", share)
        one = count is None or share is None
        require(one, "target.low_pass_share", "none with target.low_pass", share)

    @property
    def zeroed_frequencies(self) -> int:
        """How many frequencies the low-pass sets to zero; 0: there is none."""
        return self.low_pass or round((self.low_pass_share or 0) * self.image_size**2)

    @property
    def variant(self) -> str | None:
        """What is done to all images, such as 'low_pass=1024'; None: nothing."""
        done = {"low_resolution": self.low_resolution, "low_pass": self.zeroed_frequencies}
        return ",".join(f"{name}={value}" for name, value in done.items() if value) or None


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may be done to a training image; without arguments, nothing (see `PRESETS`)."""

    crop_padding: int = 0  # pixels of zeros on every side before a random crop of the old size
    flip: bool = False  # mirror left and right with probability 1/2
    brightness: float = 0.0  # v in [0, 1]: the factor is uniform in [1 - v, 1 + v]
    contrast: float = 0.0  # likewise
    saturation: float = 0.0  # likewise
    rotation: float = 0.0  # degrees d in [0, 180]: the angle is uniform in [-d, d]
    # The smallest share of the area of a random part, in [0, 1], that is resized to the whole
    # before all else (torchvision's RandomResizedCrop); 0: none.
    resized_crop: float = 0.0

    def __post_init__(self) -> None:
        padding = self.crop_padding
        whole = isinstance(padding, int) and not isinstance(padding, bool)
        expected = "whole pixels, 0 or more"
        require(whole and padding >= 0, "augmentation.crop_padding", expected, padding)
        boolean = isinstance(self.flip, bool)
        require(boolean, "augmentation.flip", "True or False", self.flip)
        for name, top in (
            ("brightness", 1),
            ("contrast", 1),
            ("saturation", 1),
            ("rotation", 180),
            ("resized_crop", 1),
        ):
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
    # Features of frozen blocks whose statistics stay are computed once and kept: on the device
    # while they take no more than this, else in host memory, else on disk (under
    # RTL_JAX_CACHE_DIR). Or always in one of these places; 'none' computes them every time.
    feature_cache_mib: int = 2048
    feature_store: FeatureStore = "auto"
    feature_bits: int = 32  # 16 halves what they take
    # With augmentation: so many views of each image are drawn and kept, all seeds alike, and an
    # epoch takes one of them. None: a new view in every epoch, through the frozen blocks.
    views: int | None = None
    checkpoint_seconds: float = 60.0  # of work that a kill may cost
    baseline: bool = False  # also fit a linear classifier on the raw pixels

    def __post_init__(self) -> None:
        require(
            self.blocks is None or self.blocks >= 0, "transfer.blocks", "0 or more", self.blocks
        )
        require_choice(self.frozen_batch_norm, FrozenBatchNorm, "transfer.frozen_batch_norm")
        require_choice(self.precision, Precision, "transfer.precision")
        require_choice(self.head, Literal["normal", "uniform"], "transfer.head")
        require_choice(self.feature_store, FeatureStore, "transfer.feature_store")
        bits = self.feature_bits
        require(bits in (16, 32), "transfer.feature_bits", "16 or 32", bits)
        for name in ("epochs", "drop_every", "eval_every", "views"):
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
    """How robustness is measured (paper, sections 3 and 7): PGD, Gaussian noise, or AutoAttack."""

    method: Literal["pgd", "gaussian", "autoattack"] = "pgd"
    norm: Literal["linf", "l2", "l1"] = "linf"  # l1 is for AutoAttack
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
    # Of AutoAttack, which reads none of the settings from `steps` to `sigma`: its version, or the
    # attacks to run instead; and whether to keep the adversarial images.
    version: Literal["standard", "plus"] = "standard"
    attacks: tuple[str, ...] = ()
    save_images: bool = False

    def __post_init__(self) -> None:
        for field in ("method", "norm", "loss", "keep", "precision", "version"):
            hint = typing.get_type_hints(type(self))[field]
            require_choice(getattr(self, field), hint, f"attack.{field}")
        names = typing.get_args(AttackName)
        known = len(set(self.attacks)) == len(self.attacks) and set(self.attacks) <= set(names)
        require(known, "attack.attacks", f"different ones of {', '.join(names)}", self.attacks)
        known = self.norm != "l1" or self.method == "autoattack"
        require(known, "attack.norm", "'l1' with attack.method 'autoattack' alone", self.norm)
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


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A grid of fine-tunings: all combinations of what these name, each with many seeds.

    What is empty has one value, that of `source`, `target` or `transfer`.
    """

    sources: tuple[str, ...] = ()  # values of source.checkpoint
    targets: tuple[str, ...] = ()  # values of target.dataset
    blocks: tuple[int, ...] = ()  # values of transfer.blocks
    num_images: tuple[int, ...] = ()  # values of target.num_images; 0: all
    folds: tuple[int, ...] = ()  # values of target.fold
    # Seeds of each cell: `seed`, `seed` + 100000, and so on. None: the paper's numbers by size,
    # those of its text (20 up to 1,600 images, 10 above) or of its Table 4 (20, 10, 5 and 1).
    seeds: int | None = None
    seeds_by: Literal["text", "table4"] = "text"
    seeds_at_once: int | None = None  # in one program; none: as many as memory is estimated to take
    measure: bool = False  # a dry run times a step of every shape
    keep_networks: bool = False  # the fine-tuned ones: at 3 blocks the paper's grid has 0.9 TB
    keep_logits: bool = False  # of the test images after the last epoch, WORKDIR/runs/RUN
    tensorboard: bool = False  # also write event files, WORKDIR/tensorboard/RUN

    def __post_init__(self) -> None:
        require_choice(self.seeds_by, Literal["text", "table4"], "sweep.seeds_by")
        for name in ("blocks", "num_images", "folds"):
            values = getattr(self, name)
            good = all(value >= 0 for value in values)
            require(good, f"sweep.{name}", "whole numbers of 0 or more", values)
        for name in ("sources", "targets", "blocks", "num_images", "folds"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"sweep.{name}", "different values", values)
        for name in ("sources", "targets"):
            require(all(getattr(self, name)), f"sweep.{name}", "names", getattr(self, name))
        for name in ("seeds", "seeds_at_once"):
            value = getattr(self, name)
            require(value is None or value > 0, f"sweep.{name}", "a positive number", value)

    def seeds_for(self, num_images: int | None) -> int:
        """Seeds of a cell with so many training images; None: all of a data set."""
        if self.seeds is not None:
            return self.seeds
        size = float("inf") if num_images is None else num_images
        if self.seeds_by == "text":
            return 20 if size <= 1600 else 10
        tops = ((1600, 20), (6400, 10), (25600, 5))
        return next((seeds for top, seeds in tops if size <= top), 1)


@dataclasses.dataclass(frozen=True)
class Influence:
    """Which training images made a prediction (paper, section 6 and appendix A.9)."""

    # 'predictions': scores of every training image on every test image, and the paper's figures;
    # 'wrong_labels': training images ranked by their influence on themselves.
    question: Literal["predictions", "wrong_labels"] = "predictions"
    # A finished fine-tuning (its work directory) whose settings are taken instead of those here;
    # none: the one that source, target, augmentation and transfer describe.
    run: str | None = None
    compare: str | None = None  # another source, fine-tuned alike and shown beside the first
    # Of the head alone, as in the paper, or also of all that was trained, by a low-rank Hessian.
    parameters: Literal["head", "trainable"] = "head"
    rank: int = 50  # eigenvectors of that one; twice as many products are made
    # 'hessian' is the expected Fisher too; 'empirical_fisher' the gradients' outer products.
    curvature: Literal["hessian", "empirical_fisher"] = "hessian"
    hessian: Literal["closed_form", "autodiff"] = "closed_form"
    batch_size: int = 5  # of autodiff
    solver: Literal["cholesky", "pseudo_inverse", "conjugate_gradient"] = "cholesky"
    # Added to the mean loss's Hessian, as an L2 term of the loss adds its own; not to be inverted
    # by a pseudo-inverse, which drops singular values up to the cut-off instead (the paper's:
    # 1e-20), absolute or relative to the largest.
    damping: float = 1e-3
    cutoff: float = 1e-20
    cutoff_kind: Literal["absolute", "relative"] = "absolute"
    tolerance: float = 1e-7  # of conjugate gradients' relative residuals
    flip_labels: float = 0.0  # a share of training labels to make wrong, and then to look for
    num_shown: int = 3  # training images for a test image in the figure
    memory_gib: int | None = None  # that a Hessian and its solver may take; none: what is free

    def __post_init__(self) -> None:
        for field in ("question", "parameters", "curvature", "hessian", "solver", "cutoff_kind"):
            hint = typing.get_type_hints(type(self))[field]
            require_choice(getattr(self, field), hint, f"influence.{field}")
        for field in ("run", "compare"):
            value = getattr(self, field)
            require(value != "", f"influence.{field}", "a path or a name, or none", value)
        for field in ("rank", "batch_size", "tolerance", "num_shown"):
            value = getattr(self, field)
            good = 0 < value < float("inf")
            require(good, f"influence.{field}", "a positive number", value)
        for field in ("damping", "cutoff"):
            value = getattr(self, field)
            require(0 <= value < float("inf"), f"influence.{field}", "0 or more", value)
        memory = self.memory_gib
        require(memory is None or memory > 0, "influence.memory_gib", "a positive number", memory)
        share = self.flip_labels
        require(0 <= share < 1, "influence.flip_labels", "0 <= share < 1", share)
        asked = share == 0 or self.question == "wrong_labels"
        require(asked, "influence.flip_labels", "0 unless influence.question=wrong_labels", share)
        formed = self.hessian == "closed_form" or (
            self.solver != "conjugate_gradient" and self.curvature == "hessian"
        )
        expected = "'closed_form' with conjugate gradients or the empirical Fisher"
        require(formed, "influence.hessian", expected, self.hessian)


@dataclasses.dataclass(frozen=True)
class Visualize:
    """What networks see: images that raise one of their features (paper, Figure 1b and appendix
    A.1), or the gradients of the loss with respect to the pixels. The images are the target's."""

    show: Literal["features", "gradients"] = "features"
    sources: tuple[str, ...] = ()  # values of source.checkpoint, side by side; empty: that one
    num_shown: int = 6  # images in the figure
    # Features by their number in what the head sees. Empty: for each source so many as have the
    # largest weights for a class of its head, or with none, as are most active at each image.
    units: tuple[int, ...] = ()
    num_units: int = 2
    label: int | None = None
    # Of the search for an image: an L2 ball and steps of relative_step * eps / steps. The defaults
    # are those of Engstrom et al. (2019), for images of 224 px: 200 steps of length 1.
    eps: float = 1000.0
    steps: int = 200
    relative_step: float = 0.2
    loss: Literal["cross_entropy", "logit"] = "cross_entropy"  # whose gradients are shown

    def __post_init__(self) -> None:
        for field in ("show", "loss"):
            hint = typing.get_type_hints(type(self))[field]
            require_choice(getattr(self, field), hint, f"visualize.{field}")
        named = len(set(self.sources)) == len(self.sources) and all(self.sources)
        require(named, "visualize.sources", "different names", self.sources)
        units = len(set(self.units)) == len(self.units) and min(self.units, default=0) >= 0
        require(units, "visualize.units", "different numbers of 0 or more", self.units)
        for field in ("num_shown", "num_units", "steps", "eps", "relative_step"):
            value = getattr(self, field)
            require(0 < value < float("inf"), f"visualize.{field}", "a positive number", value)
        label = self.label
        chosen = label is None or (label >= 0 and not self.units)
        require(chosen, "visualize.label", "a class without visualize.units, or none", label)


@dataclasses.dataclass(frozen=True)
class MyImages:
    """From a folder of photographs to a network in use. What is compared is `sweep`'s."""

    # Points of percent by which a simpler candidate (fewer blocks, an earlier source) may be behind
    # the best one and still be taken.
    margin: float = 1.0
    robustness: bool = False  # also attack held-out images, as the group `attack` says
    num_shown: int = 24  # images in a picture of the page

    def __post_init__(self) -> None:
        good = 0 <= self.margin < float("inf")
        require(good, "my_images.margin", "0 or more", self.margin)
        good = self.num_shown > 0
        require(good, "my_images.num_shown", "a positive number", self.num_shown)


@dataclasses.dataclass(frozen=True)
class Predict:
    """What `source.checkpoint` says of pictures without labels."""

    # A folder, a pattern such as 'photos/*.jpg', or a .txt file with a path on each line.
    images: str = ""
    output: str = ""  # a .csv or .parquet file; empty: WORKDIR/predictions.csv
    top: int = 5  # classes named for each picture, the most probable first
    batch_size: int = 64
    explain: int = 0  # training images named that speak most for each prediction

    def __post_init__(self) -> None:
        for name in ("top", "batch_size"):
            value = getattr(self, name)
            require(value > 0, f"predict.{name}", "a positive number", value)
        require(self.explain >= 0, "predict.explain", "0 or more", self.explain)


# The groups of settings that a task reads, beside `task` and `seed`. A run of a sweep is a
# fine-tuning, whatever the grid that it is part of; a report is no run, and reads none.
GROUPS = {
    "finetune": ("source", "target", "augmentation", "transfer"),
    "sweep": ("source", "target", "augmentation", "transfer"),
    "attack": ("source", "target", "attack"),
    "influence": ("source", "target", "augmentation", "transfer", "influence"),
    "pretrain": ("source", "target", "augmentation", "pretraining", "attack"),
    "visualize": ("source", "target", "visualize"),
}

# Settings that say where data lie and how often work is kept, but change no number.
_WITHOUT_EFFECT = (
    ("target", "data_dir"),
    ("transfer", "checkpoint_seconds"),
    ("pretraining", "checkpoint_seconds"),
    ("pretraining", "memory_mib"),
    ("pretraining", "decoding_threads"),
    ("influence", "memory_gib"),
)

Task = Literal[
    "finetune",
    "sweep",
    "attack",
    "pretrain",
    "influence",
    "report",
    "visualize",
    "my_images",
    "predict",
]
Executor = Literal["local", "ray"]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run of `run.py`."""

    task: Task = "finetune"
    source: Source = dataclasses.field(default_factory=Source)
    target: Target = dataclasses.field(default_factory=Target)
    augmentation: Augmentation = dataclasses.field(default_factory=lambda: PRESETS["paper"])
    transfer: Transfer = dataclasses.field(default_factory=Transfer)
    attack: Attack = dataclasses.field(default_factory=Attack)
    pretraining: Pretraining = dataclasses.field(default_factory=Pretraining)
    influence: Influence = dataclasses.field(default_factory=Influence)
    sweep: Sweep = dataclasses.field(default_factory=Sweep)
    visualize: Visualize = dataclasses.field(default_factory=Visualize)
    my_images: MyImages = dataclasses.field(default_factory=MyImages)
    predict: Predict = dataclasses.field(default_factory=Predict)
    seed: int = FIRST_SEED  # of the subset, the head, the batches and the augmentation
    dry_run: bool = False  # of a sweep: say what it would do, and do nothing
    # Of a sweep: who runs its cells, this process, or the workers of a Ray cluster (at
    # RAY_ADDRESS; a local one otherwise).
    executor: Executor = "local"

    def __post_init__(self) -> None:
        require_choice(self.task, Task, "task")
        require_choice(self.executor, Executor, "executor")
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
        for group, name in _WITHOUT_EFFECT:
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


def takes_names(key: str) -> bool:
    """Whether a setting is a list of names, such as 'sweep.sources'; UserError if there is none."""
    return settings.takes_names(Experiment, key)
