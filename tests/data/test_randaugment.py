"""RandAugment's operations compared with torchvision's on PIL images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rtl_jax.data.randaugment import OPERATIONS, RandAugment, apply
from tests.reference_networks import reference

pytestmark = pytest.mark.slow

# Torchvision's names, and whether it rounds on the way: then up to two grey levels apart.
NAMES = {
    "identity": ("Identity", False),
    "shear_x": ("ShearX", False),
    "shear_y": ("ShearY", False),
    "translate_x": ("TranslateX", False),
    "translate_y": ("TranslateY", False),
    "rotate": ("Rotate", False),
    "brightness": ("Brightness", True),
    "color": ("Color", True),
    "contrast": ("Contrast", True),
    "sharpness": ("Sharpness", True),
    "posterize": ("Posterize", False),
    "solarize": ("Solarize", False),
    "auto_contrast": ("AutoContrast", True),
}
HEIGHT, WIDTH = 20, 26


def picture(seed: int = 0) -> np.ndarray:
    """Make noise with values 40 to 199, which auto-contrast stretches."""
    return np.random.default_rng(seed).integers(40, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def test_every_operation_is_compared() -> None:
    assert tuple(NAMES) == OPERATIONS


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(name: str) -> None:
    package = reference("torchvision.transforms.autoaugment")
    theirs, rounded = NAMES[name]
    space = package.RandAugment()._augmentation_space(31, (HEIGHT, WIDTH))
    magnitudes, signed = space[theirs]
    image = picture()
    for magnitude in (0, 7, 9, 10, 30):
        value = float(magnitudes[magnitude]) if magnitudes.ndim else 0.0
        for sign in (1, -1) if signed else (1,):
            arguments = (theirs, sign * value)
            expected = package._apply_op(
                Image.fromarray(image), *arguments, package.InterpolationMode.NEAREST, None
            )
            found = apply(
                jnp.asarray(image / np.float32(255)),
                jnp.asarray(OPERATIONS.index(name)),
                jnp.asarray(float(sign)),
                magnitude,
            )
            difference = np.abs(255 * np.asarray(found) - np.asarray(expected, np.float32))
            apart = (difference > (2.0 if rounded else 0.01)).any(-1).mean()
            # PIL's units of 1/65536 pixel add up from a corner when it rotates, and ours from the
            # centre: a source at a pixel's edge may fall to the neighbour.
            assert apart <= (0.005 if name == "rotate" else 0), (magnitude, sign)
            if magnitude and name not in ("identity", "auto_contrast"):
                assert not np.array_equal(np.asarray(expected), image)


def test_what_auto_contrast_cannot_stretch_stays() -> None:
    flat = jnp.full((4, 4, 3), 0.3)
    index = jnp.asarray(OPERATIONS.index("auto_contrast"))
    np.testing.assert_array_equal(apply(flat, index, jnp.asarray(1.0), 9), flat)


def test_draws_are_each_images_own_and_of_every_operation() -> None:
    """Every result is that of some operation, and all operations are drawn equally often."""
    image = jnp.asarray(picture(1) / np.float32(255))
    augment = RandAugment(operations=1, magnitude=30)
    keys = jax.random.split(jax.random.key(0), 1300)
    drawn = np.asarray(augment.batch(keys, jnp.broadcast_to(image, (1300, *image.shape))))
    counts = np.zeros(len(OPERATIONS), int)
    known = 0
    for which in range(len(OPERATIONS)):
        made = [
            np.asarray(apply(image, jnp.asarray(which), jnp.asarray(s), 30)) for s in (1.0, -1.0)
        ]
        same = [np.abs(drawn - one).max((1, 2, 3)) < 1e-5 for one in made]
        counts[which] = np.logical_or(*same).sum()
        known += counts[which]
        if not np.array_equal(*made):
            assert same[0].sum() > 20 and same[1].sum() > 20  # both signs
    assert known == 1300
    assert ((counts > 60) & (counts < 145)).all()  # 100 each, +- four standard deviations
    twice = RandAugment(operations=2, magnitude=9)
    together = twice.batch(keys[:4], jnp.broadcast_to(image, (4, *image.shape)))
    for key, one in zip(keys[:4], together, strict=True):
        np.testing.assert_allclose(twice.augment(key, image), one, atol=1e-6)
    assert ((together >= 0) & (together <= 1)).all()
