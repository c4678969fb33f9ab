"""Settings of a fine-tuning."""

import dataclasses
from typing import ClassVar, Literal

from rtl_jax.errors import require, require_choice
from rtl_jax.runtime import limits
from rtl_jax.train.settings import TrainingSettings

FrozenBatchNorm = Literal["batch", "source", "adapt"]
FeatureStore = Literal["auto", "device", "host", "disk", "none"]
HeadFit = Literal["sgd", "ridge", "logistic"]


@dataclasses.dataclass(frozen=True)
class Recipe(TrainingSettings):
    """How the network is fine-tuned (paper, section 3.2 and appendix A.4).

    The last, partial batch of an epoch is kept, and weight decay covers batch normalisation and
    biases, too (Table 3).
    """

    GROUP: ClassVar[str] = "transfer"

    # Number of last residual blocks to train together with the head; none: all layers
    blocks: int | None = 3
    # BatchNorm statistics of frozen blocks: 'batch' as in the paper's code (train mode: batch
    # statistics, and running statistics drift), 'source' keeps those of the source, 'adapt'
    # re-estimates them once from the training images
    frozen_batch_norm: FrozenBatchNorm = "batch"
    epochs: int | None = None  # Number of epochs; none: 100 for up to 1,600 images, 150 for more
    # Initialisation of the new head: 'normal' as in the authors' code (weights from N(0, 1), bias
    # 0), or 'uniform', PyTorch's default
    head: Literal["normal", "uniform"] = "normal"
    # How to fit the new head. 'sgd' trains it from its initialisation, as in the paper. 'ridge'
    # (least squares on one-hot labels, penalty chosen by leave-one-out) and 'logistic' (multinomial
    # regression, penalty chosen by cross-validation) solve for it on features of the unaugmented
    # training images. With zero blocks nothing else is trained and there are no epochs; otherwise
    # training starts from the solved head.
    head_fit: HeadFit = "sgd"
    # Evaluate after epochs 1, 1 + n, 1 + 2n, ... and the last; none: every 20 epochs, or every 10
    # if there are more than 100
    eval_every: int | None = None
    # Size up to which features of frozen blocks with fixed statistics are kept on the device;
    # larger ones are kept in host memory or on disk (RTL_JAX_CACHE_DIR)
    feature_cache_mib: int = 2048
    # Where to keep these features regardless of their size; 'auto': by size; 'none': compute them
    # every time
    feature_store: FeatureStore = "auto"
    feature_bits: int = 32  # Bits per feature; 16 halves the memory
    # With augmentation: draw this many views of each image, keep their features, and use one of
    # them in each epoch, the same for all seeds; none: a new view in every epoch
    views: int | None = None
    # 'balanced': all classes have the same weight in the cross-entropy, whatever their number of
    # images
    class_weights: Literal["none", "balanced"] = "none"
    # Also fit 1-nearest-neighbour, ridge and logistic regression on raw pixels
    baseline: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.blocks is None or self.blocks >= 0, "transfer.blocks", "0 or more", self.blocks
        )
        require_choice(self.frozen_batch_norm, FrozenBatchNorm, "transfer.frozen_batch_norm")
        require_choice(self.head, Literal["normal", "uniform"], "transfer.head")
        require_choice(self.head_fit, HeadFit, "transfer.head_fit")
        weighing = Literal["none", "balanced"]
        require_choice(self.class_weights, weighing, "transfer.class_weights")
        if self.solves_all:
            for name, usual in (
                ("perturbation", "none"),
                ("label_smoothing", 0.0),
                ("class_weights", "none"),
                ("mixup", None),
                ("randaugment", 0),
            ):
                value = getattr(self, name)
                expected = f"{usual!r} with transfer.head_fit={self.head_fit} and no block"
                require(value == usual, f"transfer.{name}", expected, value)
        require_choice(self.feature_store, FeatureStore, "transfer.feature_store")
        if self.draws_anew:
            # These change images in every step, so cached features would be of other images.
            for name, kept, expected in (
                ("views", self.views is not None, "none"),
                ("feature_store", self.feature_store not in ("auto", "none"), "auto or none"),
            ):
                words = f"{expected} with transfer.mixup or transfer.randaugment, which take images"
                require(not kept, f"transfer.{name}", words, getattr(self, name))
        bits = self.feature_bits
        require(bits in (16, 32), "transfer.feature_bits", "16 or 32", bits)
        for name in ("epochs", "eval_every", "views"):
            value = getattr(self, name)
            require(value is None or value > 0, f"transfer.{name}", "a positive number", value)
        for name, kept in (
            ("blocks", self.blocks is not None),
            ("frozen_batch_norm", self.frozen_batch_norm != "batch"),
            ("feature_store", self.feature_store != "none"),
            ("perturbation", not self.perturbs),
        ):
            value = getattr(self, name)
            expected = f"none with transfer.{name}={value}, which stores no features of views"
            require(self.views is None or kept, "transfer.views", expected, self.views)
        size = self.feature_cache_mib
        require(size >= 0, "transfer.feature_cache_mib", "0 or more", size)
        limits.require_within(
            self,
            "transfer",
            blocks=limits.BLOCKS,
            epochs=limits.EPOCHS,
            eval_every=limits.EPOCHS,
            feature_cache_mib=limits.MEBIBYTES,
            views=limits.VIEWS,
        )

    @property
    def solves_all(self) -> bool:
        """Whether a fitted head is the whole training, which then has no epochs."""
        return self.blocks == 0 and self.head_fit != "sgd"

    def epochs_for(self, num_images: int) -> int:
        """Return the epochs for `num_images` images (paper, Table 4); 0 for a fitted head alone."""
        if self.solves_all:
            return 0
        return self.epochs or (100 if num_images <= 1600 else 150)

    def eval_epochs(self, epochs: int) -> list[int]:
        """Return the epochs, counted from 1, after which to measure test accuracy (paper, Table 4).

        A training without epochs is measured at its start, epoch 0.
        """
        every = self.eval_every or (20 if epochs <= 100 else 10)
        return sorted({*range(1, epochs + 1, every), epochs})
