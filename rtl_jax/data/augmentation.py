"""Settings and presets of data augmentation."""

import dataclasses

from rtl_jax.errors import require
from rtl_jax.runtime import limits


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
        limits.require_within(self, "augmentation", crop_padding=limits.PADDING)
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
        """Whether images are unchanged, so that features can be cached."""
        return self == Augmentation()


PRESETS = {
    "none": Augmentation(),
    # The authors train with this on all six of their datasets, including digits.
    "paper": Augmentation(
        crop_padding=4, flip=True, brightness=0.25, contrast=0.25, saturation=0.25, rotation=2.0
    ),
}


def augmentation(name: str) -> Augmentation:
    """Return the preset of that name. Raises UserError, listing the presets, if unknown."""
    require(name in PRESETS, "augmentation", f"one of {', '.join(PRESETS)}", name)
    return PRESETS[name]
