"""RandAugment (Cubuk et al., 2020) on the device: a few operations drawn for every image.

Operations and magnitudes are those of torchvision's `RandAugment`, except equalize, whose
histograms are slow on an accelerator. Since a switch under `vmap` would compute every operation for
every image, operations of a kind share one computation with parameters that the operation selects:
an affine map to the nearest pixel, a blend with a degenerate image, and pointwise changes. Pixels
that an operation does not change are exactly preserved.

`image` is float32 [H, W, 3] in [0, 1]; `key` a `jax.random` key.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from rtl_jax.data.transforms import grey

OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
    "color", "contrast", "sharpness", "posterize", "solarize", "auto_contrast",
)  # fmt: skip
MAGNITUDES = 31  # 0 to 30
# At the largest magnitude: shear, fraction of the image's size, degrees, change of the factor.
_SHEAR, _TRANSLATION, _DEGREES, _CHANGE = 0.3, 150 / 331, 30.0, 0.9
_FIRST_BLEND = OPERATIONS.index("brightness")


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """The number of operations per image and their magnitude; static under `jit`."""

    operations: int = 2
    magnitude: int = 9  # of MAGNITUDES

    def batch(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Augment float32 images [N, H, W, 3], each with its own key, [N]."""
        return jax.vmap(self.augment)(keys, images)

    def augment(self, key: jax.Array, image: jax.Array) -> jax.Array:
        """Apply `operations` operations in turn, each drawn uniformly, with a random sign."""
        for step in range(self.operations):
            which_key, sign_key = jax.random.split(jax.random.fold_in(key, step))
            which = jax.random.randint(which_key, (), 0, len(OPERATIONS))
            sign = jnp.where(jax.random.bernoulli(sign_key), -1.0, 1.0)
            # As in `transforms.augment`, without the barrier XLA repeats an operation in every pass
            # of the next.
            image = apply(jax.lax.optimization_barrier(image), which, sign, self.magnitude)
        return image


@partial(jax.jit, static_argnums=3)
def apply(image: jax.Array, which: jax.Array, sign: jax.Array, magnitude: int) -> jax.Array:
    """Apply the operation with index `which` in OPERATIONS, at a magnitude below MAGNITUDES.

    `sign` is 1 or -1, the direction; posterize, solarize and auto-contrast have none.
    """

    def of(name: str) -> jax.Array:
        return which == OPERATIONS.index(name)

    share = magnitude / (MAGNITUDES - 1)
    image = _moved(image, which, sign, share)
    blend = _blended(image, which, 1 + sign * _CHANGE * share)
    image = jnp.where((which >= _FIRST_BLEND) & (which < _FIRST_BLEND + 4), blend, image)
    levels = 2 ** round(magnitude / ((MAGNITUDES - 1) / 4))
    posterized = (jnp.round(255 * image) // levels) * levels / 255
    image = jnp.where(of("posterize"), posterized, image)
    bright = 255 * image >= 255 * (1 - share) - 1e-3  # up to rounding
    image = jnp.where(of("solarize") & bright, 1 - image, image)
    return jnp.where(of("auto_contrast"), _auto_contrast(image), image)


def _moved(image: jax.Array, which: jax.Array, sign: jax.Array, share: float) -> jax.Array:
    """Shear about the upper left corner, translate, or rotate about the centre, as PIL does.

    Takes the nearest pixel, and zeros from outside, in PIL's units of 1/65536 pixel: see
    `data.rotation`.
    """
    height, width, _ = image.shape
    one = 65536

    def of(name: str, value: jax.Array | float) -> jax.Array:
        return jnp.where(which == OPERATIONS.index(name), value, 0)

    def fixed(value: jax.Array) -> jax.Array:
        return jnp.round(one * value).astype(jnp.int32)

    angle = of("rotate", sign * jnp.deg2rad(_DEGREES * share))
    shear = sign * _SHEAR * share
    cos, sin = fixed(jnp.cos(angle)), jnp.sin(angle)
    across, down = fixed(of("shear_x", shear) - sin), fixed(of("shear_y", shear) + sin)
    pixels_x, pixels_y = (int(_TRANSLATION * size * share) for size in (width, height))
    left = of("translate_x", sign * pixels_x).astype(jnp.int32)
    up = of("translate_y", sign * pixels_y).astype(jnp.int32)
    # Twice the coordinate of the fixed point, so that it is an integer.
    about = which == OPERATIONS.index("rotate")
    middle_x, middle_y = jnp.where(about, width, 0), jnp.where(about, height, 0)
    dx = 2 * jnp.arange(width, dtype=jnp.int32)[None, :] + 1 - middle_x
    dy = 2 * jnp.arange(height, dtype=jnp.int32)[:, None] + 1 - middle_y
    x = (cos * dx + across * dy + middle_x * one) // (2 * one) - left
    y = (down * dx + cos * dy + middle_y * one) // (2 * one) - up
    return image.at[y, x].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def _blended(image: jax.Array, which: jax.Array, factor: jax.Array) -> jax.Array:
    """Compute `factor * image + (1 - factor) * degenerate`, clipped. The degenerate image is black
    for brightness, grey for color, the mean grey for contrast and smoothed for sharpness.
    """
    shade = grey(image)[..., None]
    choices = (jnp.zeros_like(image), shade, shade.mean(), _smooth(image))
    degenerate = jnp.stack([jnp.broadcast_to(one, image.shape) for one in choices])
    chosen = degenerate[jnp.clip(which - _FIRST_BLEND, 0, 3)]
    return jnp.clip(factor * image + (1 - factor) * chosen, 0, 1)


def _smooth(image: jax.Array) -> jax.Array:
    """Apply PIL's SMOOTH filter: a 3 x 3 mean with centre weight 5; the border is unchanged."""
    height, width, _ = image.shape
    inner = image[1:-1, 1:-1]
    total = 4 * inner
    for row in range(3):
        for column in range(3):
            total += image[row : height - 2 + row, column : width - 2 + column]
    return image.at[1:-1, 1:-1].set(total / 13)


def _auto_contrast(image: jax.Array) -> jax.Array:
    """Stretch each channel to [0, 1]; a constant channel is unchanged."""
    low, high = image.min((0, 1)), image.max((0, 1))
    spread = high - low
    stretched = (image - low) / jnp.where(spread > 0, spread, 1)
    return jnp.where(spread > 0, stretched, image)
