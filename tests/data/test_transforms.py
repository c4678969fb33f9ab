"""Transforms compared with PIL (which the paper's code used) and transcriptions in NumPy."""

import itertools
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from rtl_jax.data import transforms
from rtl_jax.data.augmentation import Augmentation, augmentation
from rtl_jax.data.crop import DRAWS, crop_box
from rtl_jax.data.rotation import farthest, rotate_by_gather, rotate_by_shifts
from rtl_jax.data.transforms import augment_batch, example_keys, prepare, prepare_to_attack
from rtl_jax.errors import UserError

pytestmark = pytest.mark.slow

GREY_LEVEL = 1 / 255
# PIL rounds after each of two passes: where both are ties it is exactly one grey level off.
PIL_ROUNDING = GREY_LEVEL + 1e-6


def random_image(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Draw uint8 noise, the hardest content for a comparison of resampling."""
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def floats(image: np.ndarray | Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


def keys(count: int, seed: int = 0, epoch: int = 0) -> jax.Array:
    return example_keys(jax.random.key(seed), epoch, jnp.arange(count))


def repeated(image: np.ndarray, count: int) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(image, jnp.float32), (count, *image.shape))


# ---- The test transform -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),  # (height, width)
    [
        ((28, 28), (224, 224)),
        ((32, 32), (224, 224)),
        ((500, 333), (224, 224)),
        ((333, 500), (336, 224)),
        ((224, 224), (32, 32)),
        ((8, 8), (64, 64)),
        ((50, 20), (30, 40)),
        ((7, 1), (3, 5)),
    ],
)
def test_resize_is_pils(old, new):
    image = random_image(*old)
    expected = floats(Image.fromarray(image).resize(new[::-1], Image.Resampling.BILINEAR))
    resized = transforms.resize(transforms.to_float(image[None]), new)[0]
    assert resized.shape == (*new, 3) and resized.dtype == jnp.float32
    np.testing.assert_allclose(resized, expected, rtol=0, atol=PIL_ROUNDING)


def test_resize_to_the_same_size_changes_nothing():
    images = transforms.to_float(random_image(32, 32)[None])
    np.testing.assert_array_equal(transforms.resize(images, 32), images)


@pytest.mark.parametrize(
    ("old", "size", "longer"),  # longer: of torchvision's Resize(size), int(size * long / short)
    [((32, 32), 224, 224), ((500, 333), 224, 336), ((60, 101), 24, 40), ((40, 33), 64, 77)],
)
def test_prepare_is_torchvisions_resize_then_centre_crop(old, size, longer):
    image = random_image(*old)
    height, width = (size, longer) if old[0] < old[1] else (longer, size)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    expected = floats(resized.crop((left, top, left + size, top + size)))
    prepared = prepare(image[None], size)
    assert prepared.shape == (1, size, size, 3) and prepared.dtype == jnp.float32
    np.testing.assert_allclose(prepared[0], expected, rtol=0, atol=PIL_ROUNDING)


@pytest.mark.parametrize("level", [0, 255])
def test_images_to_attack_are_exactly_within_0_and_1(level):
    """From 28 to 16 px, the weights of white pixels sum to 1 + 2e-7."""
    images = np.full((2, 28, 28, 3), level, np.uint8)
    images[:, :9] = np.random.default_rng(0).integers(0, 256, (2, 9, 28, 3))
    usual, found = prepare(images, 16), prepare_to_attack(images, 16)
    assert level == 0 or usual.max() > 1
    np.testing.assert_array_equal(found, np.clip(usual, 0, 1))


def test_prepare_broadcasts_grey_to_three_channels():
    image = random_image(28, 28, channels=1)
    as_rgb = Image.fromarray(image[..., 0]).convert("RGB")
    expected = floats(as_rgb.resize((64, 64), Image.Resampling.BILINEAR))
    prepared = prepare(image[None], 64)
    assert prepared.shape == (1, 64, 64, 3)
    np.testing.assert_allclose(prepared[0], expected, rtol=0, atol=PIL_ROUNDING)


def test_prepare_takes_floats_in_0_1_as_they_are():
    image = random_image(16, 16)
    for images in (image[None], floats(image)[None]):
        np.testing.assert_allclose(prepare(images, 16)[0], floats(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (np.zeros((1, 8, 8, 4), np.uint8), 8, "1 or 3"),
        (np.zeros((8, 8, 3), np.uint8), 8, "N, height"),
        (np.zeros((8, 8), np.uint8), 8, "1 or 3"),
        (np.zeros((1, 8, 8, 3), np.int32), 8, "int32"),
        (np.zeros((1, 8, 8, 3), np.uint8), 0, "1 pixel or more"),
    ],
)
def test_prepare_refuses_what_it_would_have_to_guess(images, size, message):
    with pytest.raises(UserError, match=message):
        prepare(images, size)


def test_resize_refuses_no_pixels():
    with pytest.raises(UserError, match="1 pixel or more"):
        transforms.resize(jnp.zeros((1, 8, 8, 3)), (8, 0))


# ---- Crop and flip ----------------------------------------------------------------------------


def test_crop_is_a_window_of_the_padded_image_at_every_offset():
    padding, count = 2, 300
    image = floats(random_image(9, 12))
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    offsets = list(itertools.product(range(2 * padding + 1), repeat=2))
    windows = {padded[y : y + 9, x : x + 12].tobytes(): (y, x) for y, x in offsets}
    crops = augment_batch(keys(count), repeated(image, count), Augmentation(crop_padding=padding))
    found = Counter(windows[crop.tobytes()] for crop in np.asarray(crops))
    assert set(found) == set(offsets)  # 300 draws miss one of 25 with probability 1e-4
    assert max(found.values()) < 3 * count / len(offsets)


def test_flip_mirrors_half_of_the_images():
    image, count = floats(random_image(5, 6)), 400
    images = repeated(image, count)
    flipped = np.asarray(augment_batch(keys(count), images, Augmentation(flip=True)))
    mirrored = (flipped == image[:, ::-1]).all(axis=(1, 2, 3))
    unchanged = (flipped == image).all(axis=(1, 2, 3))
    assert (mirrored ^ unchanged).all()
    assert 160 < mirrored.sum() < 240  # 4 standard deviations


# ---- Colour jitter ----------------------------------------------------------------------------

ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
ORDERS = list(itertools.permutations(range(3)))


def jitter_in_numpy(image: np.ndarray, factors, order) -> np.ndarray:
    """Apply torchvision's adjust_brightness, adjust_contrast and adjust_saturation in float64."""
    image = image.astype(np.float64)
    for step in order:
        grey = image @ np.array([0.299, 0.587, 0.114])
        if step == 0:
            image = image * factors[0]
        elif step == 1:
            image = factors[1] * image + (1 - factors[1]) * grey.mean()
        else:
            image = factors[2] * image + (1 - factors[2]) * grey[..., None]
        image = np.clip(image, 0, 1)
    return image


@pytest.mark.parametrize("factor", [0.75, 1.0, 1.25])
@pytest.mark.parametrize("step", range(3))
def test_each_jitter_step_is_pils(step, factor):
    image = random_image(24, 20)
    expected = floats(ENHANCERS[step](Image.fromarray(image)).enhance(factor))
    factors = jnp.ones(3).at[step].set(factor)
    order = jnp.array([1, 2, 0])
    # PIL rounds the grey image or its mean, truncates the blend: 1.5 levels at most.
    jittered = transforms.jitter(floats(image), factors, order)
    np.testing.assert_allclose(jittered, expected, rtol=0, atol=1.5 * GREY_LEVEL)


def test_jitter_applies_every_order_as_it_is_told():
    # Strong enough that steps clip, so that the orders differ.
    factors = jnp.array([1.6, 0.5, 1.7])
    image = floats(random_image(24, 20))
    in_each_order = jax.vmap(transforms.jitter, in_axes=(None, None, 0))
    results = np.asarray(in_each_order(image, factors, jnp.array(ORDERS)))
    for order, result in zip(ORDERS, results, strict=True):
        np.testing.assert_allclose(result, jitter_in_numpy(image, factors, order), atol=1e-6)
    for first, second in itertools.combinations(results, 2):
        assert abs(first - second).max() > 10 * GREY_LEVEL


def test_jitter_draws_every_order_and_its_whole_range(monkeypatch):
    def show_the_draw(image, factors, order):
        return jnp.stack([factors, order.astype(jnp.float32)])[None]

    monkeypatch.setattr(transforms, "jitter", show_the_draw)
    # Strengths that no other test uses: `augment_batch` is compiled once for each setting.
    setting = Augmentation(brightness=0.2, contrast=0.4, saturation=0.6)
    drawn = np.asarray(augment_batch(keys(300), jnp.zeros((300, 1, 2, 3)), setting))[:, 0]
    factors = drawn[:, 0]
    orders = Counter(tuple(order) for order in drawn[:, 1].astype(int).tolist())
    assert set(orders) == set(ORDERS) and min(orders.values()) > 25  # of 50 expected
    strength = np.array([0.2, 0.4, 0.6])
    assert (abs(factors - 1) <= strength + 1e-6).all()
    assert (factors.min(0) < 1 - 0.95 * strength).all()
    assert (factors.max(0) > 1 + 0.95 * strength).all()
    assert (abs(np.corrcoef(factors.T) - np.eye(3)) < 0.2).all()


def test_a_jitter_strength_of_zero_leaves_that_property_alone():
    image = floats(random_image(8, 8)) / 2  # so that no factor up to 1.5 clips
    bright = np.asarray(augment_batch(keys(9), repeated(image, 9), Augmentation(brightness=0.5)))
    factors = bright.mean((1, 2, 3)) / image.mean()
    assert np.ptp(factors) > 0.2
    expected = factors[:, None, None, None] * image
    np.testing.assert_allclose(bright, expected, rtol=0, atol=1e-6)


# ---- Rotation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (224, 224), (33, 50)])
@pytest.mark.parametrize("degrees", [-2.0, -0.7, 0.3, 1.99, 30.0, -117.0])
def test_rotation_is_pils(size, degrees):
    image = random_image(*size)
    expected = np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.NEAREST))
    rotated = np.round(255 * np.asarray(transforms.rotate(floats(image), degrees)))
    # PIL's rounding to 1/65536 pixel adds up from the image's corner, to 0.0017 pixel on either
    # axis at 224; ours, from the centre, to half of that. Sources that close to a pixel's edge
    # may fall to the neighbour.
    differing = (rotated != expected).any(axis=-1).mean()
    assert differing < 0.003


def test_rotation_turns_as_pil_at_right_angles():
    image = random_image(16, 16)
    for degrees in (90, 180):
        expected = np.rot90(image, degrees // 90)
        rotated = transforms.rotate(floats(image), float(degrees))
        np.testing.assert_array_equal(rotated, floats(expected))


@pytest.mark.parametrize(
    ("height", "width", "limit"), [(224, 224, 2.0), (33, 48, 2.0), (32, 32, 5.0), (20, 64, 0.5)]
)
def test_rotation_by_shifts_finds_the_same_pixels(height, width, limit):
    pixels = np.random.default_rng(0).uniform(0.01, 1, (height, width, 3)).astype(np.float32)
    angles = np.array([-limit, -0.3 * limit, 0, 0.7 * limit, limit], np.float32)
    shifted = jax.jit(jax.vmap(lambda angle: rotate_by_shifts(pixels, angle, limit)))(angles)
    gathered = jax.jit(jax.vmap(lambda angle: rotate_by_gather(pixels, angle)))(angles)
    np.testing.assert_array_equal(shifted, gathered)


def test_only_small_angles_are_rotated_by_shifts():
    assert farthest(224, 224, 2.0) == 4 and farthest(224, 224, 0.0) == 1
    assert farthest(224, 224, 5.0) is None and farthest(32, 32, 180.0) is None


def test_rotation_by_nothing_changes_nothing():
    image = floats(random_image(33, 50))
    np.testing.assert_array_equal(transforms.rotate(image, 0.0), image)


def test_rotation_draws_angles_of_both_signs_up_to_its_limit():
    size, limit = 65, 20.0
    # A disc on the right of the centre goes up when the image turns counter-clockwise.
    y, x = np.mgrid[:size, :size] - size // 2
    image = np.repeat(((x - 25) ** 2 + y**2 <= 16).astype(np.float32)[..., None], 3, -1)
    turned = augment_batch(keys(60), repeated(image, 60), Augmentation(rotation=limit))[..., 0]
    mass = np.asarray(turned.sum((1, 2)))
    means = [np.einsum("nhw,hw->n", turned, axis) / mass for axis in (-y, x)]
    angles = np.rad2deg(np.arctan2(*means))
    assert abs(angles).max() < limit + 1
    assert angles.max() > 0.8 * limit and angles.min() < -0.8 * limit


# ---- Resized crop -----------------------------------------------------------------------------


def test_a_resized_crop_is_pils():
    height, width = 24, 40
    image = random_image(height, width)
    cropped = augment_batch(keys(40), repeated(floats(image), 40), Augmentation(resized_crop=0.2))
    boxes = set()
    for key, found in zip(keys(40), cropped, strict=True):
        draws = jax.random.uniform(jax.random.fold_in(key, 4), (DRAWS,))
        box = tuple(int(edge) for edge in crop_box(draws, height, width, 0.2))
        boxes.add(box)
        top, left, h, w = box
        part = Image.fromarray(image[top : top + h, left : left + w])
        expected = part.resize((width, height), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(found, floats(expected), rtol=0, atol=PIL_ROUNDING)
    assert len(boxes) > 35


def test_a_share_of_one_leaves_a_square_alone():
    """Crops of the whole area with another aspect ratio do not fit."""
    image = floats(random_image(32, 32))
    same = augment_batch(keys(40), repeated(image, 40), Augmentation(resized_crop=1.0))
    np.testing.assert_allclose(same, repeated(image, 40), rtol=0, atol=1e-6)


# ---- The whole --------------------------------------------------------------------------------


def test_presets():
    assert augmentation("none").is_identity
    assert augmentation("paper") == Augmentation(4, True, 0.25, 0.25, 0.25, 2.0)
    assert not augmentation("paper").is_identity
    with pytest.raises(UserError, match="none, paper"):
        augmentation("papr")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("crop_padding", -1),
        ("crop_padding", 1.5),
        ("crop_padding", True),
        ("flip", 1),
        ("brightness", -0.1),
        ("contrast", 1.1),
        ("saturation", "0.2"),
        ("saturation", float("nan")),
        ("rotation", 181),
        ("rotation", True),
        ("resized_crop", 1.1),
    ],
)
def test_a_wrong_setting_is_named(setting, value):
    with pytest.raises(UserError, match=f"{setting}: expected .* received"):
        Augmentation(**{setting: value})


def test_the_identity_returns_its_input():
    images = prepare(random_image(8, 8)[None], 8)
    np.testing.assert_array_equal(augment_batch(keys(1), images, augmentation("none")), images)
    image = transforms.augment(jax.random.key(0), images[0], Augmentation())
    np.testing.assert_array_equal(image, images[0])


def test_steps_follow_in_the_authors_order():
    """Applying the steps one by one, with the others' keys unused, gives the whole augmentation."""
    image = prepare(random_image(32, 32)[None], 32)[0]
    paper = replace(augmentation("paper"), resized_crop=0.3)
    steps = [
        replace(Augmentation(), resized_crop=0.3),
        replace(Augmentation(), crop_padding=paper.crop_padding),
        replace(Augmentation(), flip=True),
        replace(Augmentation(), brightness=0.25, contrast=0.25, saturation=0.25),
        replace(Augmentation(), rotation=paper.rotation),
    ]
    for key in keys(4):
        expected = image
        for step in steps:
            expected = transforms.augment(key, expected, step)
        whole = transforms.augment(key, image, paper)
        np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def batch() -> jax.Array:
    images = [random_image(32, 32, seed=seed) for seed in range(8)]
    return prepare(np.stack(images), 40)


def test_an_images_augmentation_depends_on_its_index_and_not_on_its_batch(batch):
    paper, key = augmentation("paper"), jax.random.key(7)
    together = augment_batch(example_keys(key, 3, jnp.arange(8)), batch, paper)
    some = jnp.array([6, 1, 4])
    apart = augment_batch(example_keys(key, 3, some), batch[some], paper)
    np.testing.assert_allclose(apart, together[some], rtol=0, atol=1e-6)


def test_epochs_images_and_runs_differ(batch):
    same = jnp.broadcast_to(batch[:1], batch.shape)
    draws = [
        augment_batch(keys(8, seed, epoch), same, augmentation("paper"))
        for seed, epoch in [(0, 0), (0, 1), (1, 0)]
    ]
    for first, second in itertools.combinations(np.concatenate(draws), 2):
        assert abs(first - second).max() > 0.01


def test_output_stays_in_range(batch):
    strong = Augmentation(4, True, 1.0, 1.0, 1.0, 180.0)
    for setting in (augmentation("paper"), strong):
        out = augment_batch(keys(8), batch, setting)
        assert out.shape == batch.shape and out.dtype == jnp.float32
        assert out.min() >= 0 and out.max() <= 1


def test_jit_and_vmap_change_nothing(batch):
    paper = augmentation("paper")
    jitted = augment_batch(keys(8), batch, paper)
    for key, image, expected in list(zip(keys(8), batch, jitted, strict=True))[:3]:
        alone = transforms.augment(key, image, paper)
        np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-6)
    image = random_image(32, 32)[None]
    plain = prepare.__wrapped__(image, 40)
    np.testing.assert_allclose(plain, prepare(image, 40), rtol=0, atol=1e-6)


def test_raw_keys_are_welcome(batch):
    raw = example_keys(jax.random.PRNGKey(0), 0, jnp.arange(8))
    crop = Augmentation(crop_padding=4)
    np.testing.assert_array_equal(
        augment_batch(raw, batch, crop), augment_batch(keys(8), batch, crop)
    )


def test_seeds_vmap_inside_a_scan_over_epochs(batch):
    paper = augmentation("paper")
    seeds = jax.random.split(jax.random.key(0), 2)

    def epoch_of_a_seed(key, epoch):
        return augment_batch(example_keys(key, epoch, jnp.arange(8)), batch, paper)

    def step(carry, epoch):
        return carry, jax.vmap(epoch_of_a_seed, in_axes=(0, None))(seeds, epoch)

    _, out = jax.jit(lambda epochs: jax.lax.scan(step, None, epochs))(jnp.arange(2))
    for epoch, seed in itertools.product(range(2), repeat=2):
        alone = epoch_of_a_seed(seeds[seed], epoch)
        np.testing.assert_allclose(out[epoch, seed], alone, rtol=0, atol=1e-6)
