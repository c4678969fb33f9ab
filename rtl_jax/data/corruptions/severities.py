"""Names of corruptions, and the parameters of their five severities. Does not import JAX.

The authors published two sets of parameters: those of CIFAR-10-C for 32 px, and the much stronger
ones of ImageNet-C for 224 px. The former are used for images whose shorter side has fewer than
`LARGE` pixels, the latter for all others.
"""

from numbers import Integral
from typing import Any, NamedTuple

from rtl_jax.errors import UserError

LARGE = 128  # pixels
LEAST = 16  # pixels; the reach of a blur must lie within the image
SEVERITIES = (1, 2, 3, 4, 5)

# It needs photographs that are not part of this package, so it is done only where it is named.
FROST = "frost"

Five = tuple[Any, Any, Any, Any, Any]


class Severities(NamedTuple):
    """The parameters of a corruption's function at severities 1 to 5.

    small: those of CIFAR-10-C. large: those of ImageNet-C.
    """

    small: Five
    large: Five


# The authors wrote 244 instead of 224; displacements here are fractions of the image's side.
_SLIP = 244 / 224

# In the order of the paper's tables.
CORRUPTIONS: dict[str, Severities] = {
    # Standard deviation.
    "gaussian_noise": Severities((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    # Photons at full brightness.
    "shot_noise": Severities((500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    # Fraction of values that become black or white.
    "impulse_noise": Severities((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    # Radius of the disk, standard deviation of its smoothing.
    "defocus_blur": Severities(
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    # Standard deviation of the blur, reach of a replacement, number of rounds.
    "glass_blur": Severities(
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    # Radius, standard deviation.
    "motion_blur": Severities(
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    # Zoom factors from 1: end and step.
    "zoom_blur": Severities(
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    # Mean and standard deviation of the flakes, their magnification, the threshold below which they
    # are invisible, radius and standard deviation of their motion, remaining fraction of the
    # image's colours.
    "snow": Severities(
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    # Remaining fraction of the image, share of the photograph that is added.
    FROST: Severities(
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    # Thickness, decay of the details.
    "fog": Severities(
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    # Added to the value in HSV.
    "brightness": Severities((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    # Remaining fraction of the differences from the mean.
    "contrast": Severities((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    # Size and smoothness of displacements, size of the affine part, as fractions of the side.
    "elastic_transform": Severities(
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        (
            (2 * _SLIP, 0.7 * _SLIP, 0.1 * _SLIP),
            (2 * _SLIP, 0.08 * _SLIP, 0.2 * _SLIP),
            (0.05 * _SLIP, 0.01 * _SLIP, 0.02 * _SLIP),
            (0.07 * _SLIP, 0.01 * _SLIP, 0.02 * _SLIP),
            (0.12 * _SLIP, 0.01 * _SLIP, 0.02 * _SLIP),
        ),
    ),
    # Remaining fraction of the side.
    "pixelate": Severities((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    # Quality.
    "jpeg_compression": Severities((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}

# What is done where no corruption is named.
STANDARD = tuple(name for name in CORRUPTIONS if name != FROST)


class Corruption(NamedTuple):
    """A corruption and its severity, 1 to 5; as text, 'fog:3'."""

    name: str
    severity: int

    @classmethod
    def parse(cls, text: str) -> "Corruption":
        """Parse text such as 'fog:3'. Raises UserError for an unknown name or severity."""
        name, colon, severity = text.partition(":")
        if not (colon and severity.isascii() and severity.isdigit()):
            raise UserError(
                f"corruption: expected NAME:SEVERITY, such as 'fog:3', received {text!r}"
            )
        return cls.of(name, int(severity))

    @classmethod
    def readable(cls, text: str) -> bool:
        """Whether `parse` accepts the text."""
        try:
            return bool(cls.parse(text))
        except UserError:
            return False

    @classmethod
    def of(cls, name: str, severity: int) -> "Corruption":
        """Check a name and a severity. Raises UserError for unknown ones."""
        if name not in CORRUPTIONS:
            raise UserError(
                f"corruption: expected one of {', '.join(CORRUPTIONS)}, received {name!r}"
            )
        whole = isinstance(severity, Integral) and not isinstance(severity, bool)
        if not (whole and severity in SEVERITIES):
            raise UserError(f"corruption: expected a severity of 1 to 5, received {severity!r}")
        return cls(name, int(severity))

    def __str__(self) -> str:
        return f"{self.name}:{self.severity}"

    def parameters(self, height: int, width: int) -> tuple[Any, ...]:
        """Return the parameters of this severity for images of this size."""
        tables = CORRUPTIONS[self.name]
        five = tables.large if min(height, width) >= LARGE else tables.small
        chosen = five[self.severity - 1]
        return chosen if isinstance(chosen, tuple) else (chosen,)
