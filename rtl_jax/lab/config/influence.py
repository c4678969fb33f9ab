"""Settings of influence functions."""

import dataclasses
from typing import Literal

from rtl_jax.errors import require
from rtl_jax.runtime import limits
from rtl_jax.runtime.hints import require_choices


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
    # How the head's Hessian is formed: by its formula, or by differentiating twice.
    hessian: Literal["closed_form", "autodiff"] = "closed_form"
    batch_size: int = 5  # of autodiff
    # How the Hessian is inverted; a pseudo-inverse is the paper's way.
    solver: Literal["cholesky", "pseudo_inverse", "conjugate_gradient"] = "cholesky"
    # Added to the mean loss's Hessian, as an L2 term of the loss adds its own; a pseudo-inverse
    # does without. none: the penalty with which a head was solved for, 0.001 for a trained one.
    damping: float | None = None
    # A pseudo-inverse drops singular values up to this one (the paper's: 1e-20).
    cutoff: float = 1e-20
    # Whether the cut-off is a singular value, or a share of the largest.
    cutoff_kind: Literal["absolute", "relative"] = "absolute"
    tolerance: float = 1e-7  # of conjugate gradients' relative residuals
    flip_labels: float = 0.0  # a share of training labels to make wrong, and then to look for
    num_shown: int = 3  # training images for a test image in the figure
    # The number of test images in the figure whose most influential training image is changed so
    # that retraining the head on it raises the test image's loss most; 0: none.
    perturb: int = 0
    perturb_eps: float = 0.05  # the L2 radius of these changes, for pixels in [0, 1]
    perturb_steps: int = 10  # of PGD along the influence of pixels; 1: the gradient, of that length
    memory_gib: int | None = None  # that a Hessian and its solver may take; none: what is free

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
