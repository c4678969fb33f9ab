"""Settings and presets of data augmentation."""

import dataclasses

from rtl_jax.errors import require
from rtl_jax.runtime import limits


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of training images; by default none (see `PRESETS`)."""

    # Pixels of zero padding on every side before a random crop to the original size
    crop_padding: int = 0
    flip: bool = False  # Mirror horizontally with probability 1/2
    # Strength v in [0, 1]: the factor is drawn uniformly from [1 - v, 1 + v]
    brightness: float = 0.0
    contrast: float = 0.0  # Strength, as for brightness
    saturation: float = 0.0  # Strength, as for brightness
    # Maximum angle d in degrees, up to 180: the angle is drawn uniformly from [-d, d]
    rotation: float = 0.0
    # Before everything else, crop a random part with at least this fraction of the area and resize
    # it to the full size (torchvision's RandomResizedCrop); 0: no crop
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
