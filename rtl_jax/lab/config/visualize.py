"""Settings of what is drawn of networks."""

import dataclasses
from typing import Literal

from rtl_jax.errors import require
from rtl_jax.runtime import limits
from rtl_jax.runtime.hints import require_choices


@dataclasses.dataclass(frozen=True)
class Visualize:
    """What networks see: images that raise one of their features (paper, Figure 1b and appendix
    A.1), or the gradients of the loss with respect to the pixels. The images are the target's."""

    show: Literal["features", "gradients"] = "features"  # what is drawn
    sources: tuple[str, ...] = ()  # values of source.checkpoint, side by side; empty: that one
    num_shown: int = 6  # images in the figure
    # Features by their number in what the head sees. Empty: for each source as many as have the
    # largest weights for a class of its head, or with none, as are most active at each image.
    units: tuple[int, ...] = ()
    num_units: int = 2  # features drawn where `units` is empty
    label: int | None = None  # the class of the head whose features are drawn; none: of each image
    # The radius of the L2 ball that is searched for an image. The defaults of the search are those
    # of Engstrom et al. (2019), for images of 224 px: 200 steps of length 1.
    eps: float = 1000.0
    steps: int = 200  # of the search
    relative_step: float = 0.2  # c: a step is c * eps / steps
    loss: Literal["cross_entropy", "logit"] = "cross_entropy"  # whose gradients are shown

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
