"""Settings of influence functions."""

import dataclasses
from typing import Literal

from rtl_jax.errors import require
from rtl_jax.runtime import limits
from rtl_jax.runtime.hints import require_choices


@dataclasses.dataclass(frozen=True)
class Influence:
    """Which training images are behind a prediction (paper, section 6 and appendix A.9)."""

    # 'predictions': score every training image for every test image, and draw the paper's figures;
    # 'wrong_labels': rank training images by their influence on themselves
    question: Literal["predictions", "wrong_labels"] = "predictions"
    # Work directory of a finished fine-tuning whose settings to use; none: the fine-tuning that
    # source, target, augmentation and transfer describe
    run: str | None = None
    # Another source to fine-tune in the same way and show beside the first
    compare: str | None = None
    # Influence through the head alone, as in the paper, or through all trained parameters, with a
    # low-rank Hessian
    parameters: Literal["head", "trainable"] = "head"
    # Number of eigenvectors of the low-rank Hessian, which takes twice as many Hessian-vector
    # products
    rank: int = 50
    # 'hessian', which is also the expected Fisher, or 'empirical_fisher', the sum of outer products
    # of gradients
    curvature: Literal["hessian", "empirical_fisher"] = "hessian"
    # How to compute the Hessian of the head: by its formula, or by automatic differentiation
    hessian: Literal["closed_form", "autodiff"] = "closed_form"
    batch_size: int = 5  # Images per step of automatic differentiation
    # How to invert the Hessian; the paper uses a pseudo-inverse
    solver: Literal["cholesky", "pseudo_inverse", "conjugate_gradient"] = "cholesky"
    # Added to the diagonal of the Hessian of the mean loss, like an L2 penalty; the pseudo-inverse
    # does not need it. none: the penalty of a solved head, 0.001 for a trained one.
    damping: float | None = None
    # Singular values up to this one are dropped by the pseudo-inverse (the paper's is 1e-20)
    cutoff: float = 1e-20
    # Whether the cut-off is a singular value, or a fraction of the largest one
    cutoff_kind: Literal["absolute", "relative"] = "absolute"
    tolerance: float = 1e-7  # Relative residual at which conjugate gradients stop
    # Fraction of training labels to make wrong, to test whether they are found
    flip_labels: float = 0.0
    num_shown: int = 3  # Training images shown for each test image in the figure
    # Number of test images in the figure whose most influential training image is changed so that
    # retraining the head on it raises their loss most; 0: none
    perturb: int = 0
    perturb_eps: float = 0.05  # L2 radius of these changes, for pixels in [0, 1]
    # Steps of PGD for these changes; 1: a single step of that length along the gradient
    perturb_steps: int = 10
    # Memory that the Hessian and its solver may use; none: what is free
    memory_gib: int | None = None

    def __post_init__(self) -> None:
        require_choices(self, "influence", "question", "parameters", "curvature", "hessian",
                        "solver", "cutoff_kind")  # fmt: skip
        for field in ("run", "compare"):
            value = getattr(self, field)
            require(value != "", f"influence.{field}", "a path or a name, or none", value)
        for field in (
            "rank",
            "batch_size",
            "tolerance",
            "num_shown",
            "perturb_eps",
            "perturb_steps",
        ):
            value = getattr(self, field)
            good = 0 < value < float("inf")
            require(good, f"influence.{field}", "a positive number", value)
        for field, value in (("damping", self.damping or 0), ("cutoff", self.cutoff)):
            require(0 <= value < float("inf"), f"influence.{field}", "0 or more", value)
        limits.require_within(
            self,
            "influence",
            rank=limits.RANK,
            batch_size=limits.BATCH_SIZE,
            num_shown=limits.SHOWN,
            perturb=limits.SHOWN,
            perturb_eps=limits.RADIUS,
            perturb_steps=limits.STEPS,
            memory_gib=limits.MEBIBYTES,
        )
        memory = self.memory_gib
        require(memory is None or memory > 0, "influence.memory_gib", "a positive number", memory)
        require(self.perturb >= 0, "influence.perturb", "0 or more", self.perturb)
        asked = self.perturb == 0 or self.question == "predictions"
        expected = "0 unless influence.question=predictions"
        require(asked, "influence.perturb", expected, self.perturb)
        share = self.flip_labels
        require(0 <= share < 1, "influence.flip_labels", "0 <= share < 1", share)
        asked = share == 0 or self.question == "wrong_labels"
        require(asked, "influence.flip_labels", "0 unless influence.question=wrong_labels", share)
        formed = self.hessian == "closed_form" or (
            self.solver != "conjugate_gradient" and self.curvature == "hessian"
        )
        expected = "'closed_form' with conjugate gradients or the empirical Fisher"
        require(formed, "influence.hessian", expected, self.hessian)
