"""Settings of the task `visualize`."""

import dataclasses
from typing import Literal

from rtl_jax.errors import require
from rtl_jax.runtime import limits
from rtl_jax.runtime.hints import require_choices


@dataclasses.dataclass(frozen=True)
class Visualize:
    """What networks see in images of the target: images that maximise a feature (paper, Figure 1b
    and appendix A.1), or the gradient of the loss with respect to the pixels."""

    show: Literal["features", "gradients"] = "features"  # What to draw
    # Values of source.checkpoint to show side by side; empty: source.checkpoint
    sources: tuple[str, ...] = ()
    num_shown: int = 6  # Images in the figure
    # Indices of features among the inputs of the head. Empty: for each source, those with the
    # largest weights for the class `label` of its head, or, without one, those most active for each
    # image.
    units: tuple[int, ...] = ()
    num_units: int = 2  # Number of features to draw if `units` is empty
    # Class of the head whose features are drawn; none: the most active features of each image
    label: int | None = None
    # Radius of the L2 ball to search. The defaults of the search are those of Engstrom et al.
    # (2019) for images of 224 px: 200 steps of length 1.
    eps: float = 1000.0
    steps: int = 200  # Number of steps of the search
    relative_step: float = 0.2  # Step size c: a step has length c * eps / steps
    loss: Literal["cross_entropy", "logit"] = "cross_entropy"  # Loss whose gradient is shown

    def __post_init__(self) -> None:
        require_choices(self, "visualize", "show", "loss")
        named = len(set(self.sources)) == len(self.sources) and all(self.sources)
        require(named, "visualize.sources", "different names", self.sources)
        units = len(set(self.units)) == len(self.units) and min(self.units, default=0) >= 0
        require(units, "visualize.units", "different numbers of 0 or more", self.units)
        for field in ("num_shown", "num_units", "steps", "eps", "relative_step"):
            value = getattr(self, field)
            require(0 < value < float("inf"), f"visualize.{field}", "a positive number", value)
        limits.require_within(
            self,
            "visualize",
            num_shown=limits.SHOWN,
            units=limits.FEATURES,
            num_units=limits.SHOWN,
            label=limits.CLASSES,
            eps=limits.RADIUS,
            steps=limits.STEPS,
            relative_step=limits.STEPS,
        )
        label = self.label
        chosen = label is None or (label >= 0 and not self.units)
        require(chosen, "visualize.label", "a class without visualize.units, or none", label)
