"""Corruptions compared with SciPy, PIL, closed forms and the published package."""

import colorsys
import contextlib
import io
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from rtl_jax.common_corruptions import corruption_accuracy
from rtl_jax.data.corruptions import frost, weather
from rtl_jax.data.corruptions.blur import _glass, _taken, disk
from rtl_jax.data.corruptions.corrupt import corrupt
from rtl_jax.data.corruptions.motion import motion
from rtl_jax.data.corruptions.registry import ENTRIES
from rtl_jax.data.corruptions.severities import CORRUPTIONS, STANDARD, Corruption
from rtl_jax.errors import UserError
from tests.data import published_corruptions as published

LEVEL = 1 / 255


def pictures(number: int, size: int) -> np.ndarray:
    """Make smooth pictures, uint8 [N, size, size, 3], for which blurs and JPEG are meant."""
    rng = np.random.default_rng(size)
    drawn = ndimage.gaussian_filter(rng.random((number, size, size, 3)), (0, 2, 2, 0))
    low, high = drawn.min(), drawn.max()
    return np.rint((drawn - low) / (high - low) * 255).astype(np.uint8)


SMALL = pictures(2, 32)
FLOATS = (SMALL / 255).astype(np.float32)


def corrupted(name: str, severity: int, images: np.ndarray = FLOATS) -> np.ndarray:
    return corrupt(images, Corruption.of(name, severity), 3)


def test_every_corruption_has_a_function_and_five_severities() -> None:
    assert set(ENTRIES) == set(CORRUPTIONS) and len(CORRUPTIONS) == 15
    for tables in CORRUPTIONS.values():
        assert [len(five) for five in tables] == [5, 5]


@pytest.mark.parametrize("name", STANDARD)
def test_an_image_is_corrupted_alike_whatever_lies_beside_it(name: str) -> None:
    corruption = Corruption.of(name, 3)
    both = corrupt(SMALL, corruption, 3, indices=[7, 4])
    turned = corrupt(SMALL[::-1], corruption, 3, indices=[4, 7])
    assert both.dtype == np.uint8 and both.shape == SMALL.shape
    np.testing.assert_array_equal(turned[::-1], both)
    difference = np.abs(both.astype(int) - SMALL)
    assert difference.mean() > 0.3, difference.mean()
    other = corrupt(SMALL, corruption, 4, indices=[7, 4])
    drawn = ENTRIES[name].random or name == "shot_noise"
    assert drawn == bool((other != both).any())


def test_noise_has_its_moments() -> None:
    grey = np.full((4, 64, 64, 3), 0.4, np.float32)
    number = grey.size
    for severity, sigma in ((1, 0.04), (5, 0.1)):
        noise = corrupted("gaussian_noise", severity, grey) - 0.4
        assert abs(noise.mean()) < 5 * sigma / np.sqrt(number)
        assert noise.std() == pytest.approx(sigma, rel=5 / np.sqrt(2 * number))
        assert stats.kstest(noise.ravel(), stats.norm(0, sigma).cdf).pvalue > 1e-3
    photons = corrupted("shot_noise", 5, grey) * 50
    assert photons.mean() == pytest.approx(20, abs=5 * np.sqrt(20 / number))
    assert photons.var() == pytest.approx(20, rel=0.05)
    broken = corrupted("impulse_noise", 4, grey)
    for value, share in ((0, 0.025), (1, 0.025), (np.float32(0.4), 0.95)):
        room = 5 * np.sqrt(share * (1 - share) / number)
        assert (broken == value).mean() == pytest.approx(share, abs=room)


@pytest.mark.parametrize("severity", [1, 5])
def test_contrast_and_brightness_have_closed_forms(severity: int) -> None:
    share = {1: 0.75, 5: 0.15}[severity]
    mean = FLOATS.mean((1, 2), keepdims=True)
    expected = share * FLOATS + (1 - share) * mean
    np.testing.assert_allclose(corrupted("contrast", severity), expected, atol=1e-5)
    images = FLOATS.copy()
    images[0, 0, 0] = 0
    found = corrupted("brightness", severity, images)
    more = {1: 0.05, 5: 0.3}[severity]
    for place in (
        (0, 0, 0),
        (0, 3, 5),
        (1, 20, 9),
        tuple(np.argwhere(images == images.max())[0][:3]),
    ):
        hue, saturation, value = colorsys.rgb_to_hsv(*images[place].astype(float))
        brighter = colorsys.hsv_to_rgb(hue, saturation, min(value + more, 1))
        np.testing.assert_allclose(found[place], brighter, atol=1e-5)


@pytest.mark.parametrize("severity", [1, 5])
def test_defocus_is_scipys_correlation(severity: int) -> None:
    (kernel,) = disk(None, 32, 32, *CORRUPTIONS["defocus_blur"].small[severity - 1])
    expected = ndimage.correlate(FLOATS, kernel[None, :, :, None], mode="mirror")
    np.testing.assert_allclose(corrupted("defocus_blur", severity), expected, atol=1e-5)


def test_zoom_is_scipys() -> None:
    def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
        part = int(np.ceil(32 / factor))
        start = (32 - part) // 2
        inside = image[start : start + part, start : start + part]
        large = ndimage.zoom(inside, (factor, factor, 1), order=1)
        trim = (len(large) - 32) // 2
        return large[trim : trim + 32, trim : trim + 32]

    factors = np.arange(1, 1.26, 0.01)
    for image, found in zip(FLOATS, corrupted("zoom_blur", 5), strict=True):
        total = image + sum(zoomed(image, factor) for factor in factors)
        np.testing.assert_allclose(found, total / (len(factors) + 1), atol=1e-5)


def test_glass_takes_pixels_one_after_the_other() -> None:
    """Without the blur: the published loop, where swapping rows of an array copies one of them."""
    height, width, reach = 9, 12, 2
    expected = np.arange(height * width).reshape(height, width, 1)
    shifts = np.random.default_rng(5).integers(-reach, reach, (5, 8, 2))
    for row, high in enumerate(range(height - reach, reach, -1)):
        for column, wide in enumerate(range(width - reach, reach, -1)):
            right, down = shifts[row, column]
            there = expected[high + down, wide + right]
            expected[high, wide], expected[high + down, wide + right] = there, expected[high, wide]
    found = _taken(np.random.default_rng(5), height, width, reach)
    np.testing.assert_array_equal(found.reshape(height, width), expected[..., 0])


def test_glass_blurs_before_and_after() -> None:
    sources = _glass(np.random.default_rng((3, 0)), 32, 32, 0.4, 1, 2)[0]
    blurred = ndimage.gaussian_filter(FLOATS[0], (0.4, 0.4, 0), mode="nearest")
    taken = blurred.reshape(-1, 3)[sources].reshape(blurred.shape)
    expected = ndimage.gaussian_filter(taken, (0.4, 0.4, 0), mode="nearest")
    np.testing.assert_allclose(corrupted("glass_blur", 5)[0], expected, atol=1e-5)


@pytest.mark.parametrize("severity", [1, 3])
def test_elastic_is_scipys_affine_and_then_its_displacement(severity: int) -> None:
    size, smooth, affine = (
        32 * part for part in CORRUPTIONS["elastic_transform"].small[severity - 1]
    )
    rng = np.random.default_rng((3, 0))
    points = np.array([[26, 26], [26, 6], [6, 6]], float)  # x, y
    moved = points + rng.uniform(-affine, affine, (3, 2))
    # x and y of the image that a place of the result shows: exact at the three points.
    matrix = np.linalg.solve(np.c_[moved, np.ones(3)], points)
    swapped = matrix[:2, ::-1].T[:, ::-1]
    right, down = (
        size * ndimage.gaussian_filter(rng.uniform(-1, 1, (32, 32)), smooth, truncate=3)
        if smooth
        else np.zeros((32, 32))
        for _ in range(2)
    )
    places = np.mgrid[:32, :32] + np.stack([down, right])
    found = corrupted("elastic_transform", severity)[0]
    for channel in range(3):
        first = ndimage.affine_transform(
            FLOATS[0, ..., channel], swapped, matrix[2, ::-1], order=1, mode="mirror"
        )
        expected = ndimage.map_coordinates(first, places, order=1, mode="reflect")
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-4)


@pytest.mark.parametrize("severity", [1, 5])
def test_pixels_and_jpeg_are_pils(severity: int) -> None:
    side = int(32 * {1: 0.95, 5: 0.65}[severity])
    quality = {1: 80, 5: 40}[severity]
    coarse, pressed = (
        corrupted(name, severity, SMALL) for name in ("pixelate", "jpeg_compression")
    )
    for number, image in enumerate(map(Image.fromarray, SMALL)):
        small = image.resize((side, side), Image.Resampling.BOX)
        large = np.asarray(small.resize((32, 32), Image.Resampling.BOX)).astype(int)
        assert np.abs(coarse[number] - large).max() <= 1  # PIL rounds twice
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(pressed[number], np.asarray(Image.open(file)))


def test_motion_is_a_sum_along_a_line() -> None:
    """Straight to the left: half a Gaussian along each row, with its edge repeated."""
    rows, columns, weights = motion(32, 32, 6, 2.0, 0.0)
    np.testing.assert_array_equal(rows, np.tile(np.arange(32), (13, 1)))
    kernel = np.exp(-(np.arange(13) ** 2) / 8)
    assert weights == pytest.approx(kernel / kernel.sum())
    found = np.einsum("k,kw->w", weights, FLOATS[0, 5, :, 0][columns])
    padded = np.pad(FLOATS[0, 5, :, 0], (0, 12), mode="edge")
    expected = [padded[at : at + 13] @ kernel / kernel.sum() for at in range(32)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert motion(32, 32, 20, 15.0, 30.0).weights.sum() < 1  # what would leave the image


def test_fog_is_a_plasma_and_snow_brightens() -> None:
    clouds = weather.plasma(np.random.default_rng(0), 64, 2.0)
    assert (clouds.min(), clouds.max()) == (0, 1) and clouds.shape == (64, 64)
    rough = weather.plasma(np.random.default_rng(0), 64, 1.2)
    assert np.abs(np.diff(rough)).mean() > 2 * np.abs(np.diff(clouds)).mean()
    own = weather.plasma(np.random.default_rng((3, 0)), 32, 1.75)[..., None]
    brightest = FLOATS[0].max()
    expected = (FLOATS[0] + 1.5 * own) * brightest / (brightest + 1.5)
    np.testing.assert_allclose(corrupted("fog", 5)[0], expected, atol=1e-5)
    assert corrupted("snow", 5).mean() > corrupted("snow", 1).mean() > FLOATS.mean()


# ---- The published package --------------------------------------------------------------------

LARGE = pictures(1, 128)


def by_the_package(name: str, severity: int, rng: np.random.Generator, dtype: type) -> np.ndarray:
    """Corrupt with the package; float64 [128, 128, 3] in [0, 1]."""
    module = published.load()
    with published.drawing(rng, dtype):
        found = getattr(module, name)(Image.fromarray(LARGE[0]), severity)
    return np.asarray(found, float) / 255


@pytest.mark.parametrize("severity", [1, 4])
@pytest.mark.parametrize(
    "name",
    [
        *("gaussian_noise", "shot_noise", "defocus_blur", "motion_blur", "zoom_blur"),
        *("fog", "brightness", "contrast", "pixelate", "jpeg_compression", "snow"),
    ],
)
def test_the_published_package_finds_the_same(name: str, severity: int) -> None:
    """With the same random numbers, up to rounding to grey levels in the package, PIL or OpenCV."""
    rng = np.random.default_rng((3, 0))
    single = np.float32 if name == "gaussian_noise" else float
    expected = by_the_package(name, severity, rng, single)
    found = corrupted(name, severity, (LARGE / 255).astype(np.float32))[0]
    difference = np.abs(found - expected)
    if name == "snow":  # whose large flakes it cuts off at another place, and rounds
        assert found.mean() == pytest.approx(expected.mean(), abs=0.03)
        assert found.std() == pytest.approx(expected.std(), abs=0.03)
        return
    # A direction's shifts are whole pixels, and OpenCV sums in another order.
    assert difference.max() <= 1.01 * LEVEL, difference.max()


@pytest.fixture(autouse=True)
def read_anew() -> None:
    """Photographs are kept once they are read, and tests have different ones."""
    frost._photographs.cache_clear()


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Stand-ins for the photographs of frost, losslessly saved; uint8 [H, W, 3]."""
    folder = tmp_path / "imagecorruptions" / "frost"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise ImportError('needs OpenCV')")
    monkeypatch.syspath_prepend(tmp_path)
    rng, drawn = np.random.default_rng(0), []
    for name in frost._FILES:
        # The others are too small for some images.
        height, width = (60, 400) if name == "frost2.png" else (210, 300)
        drawn.append(rng.integers(0, 256, (height, width, 3), np.uint8))
        Image.fromarray(drawn[-1]).save(folder / name, format="PNG")
    return drawn


@pytest.mark.parametrize("size, severity, kept, added", [(16, 4, 0.85, 0.4), (200, 3, 0.7, 0.7)])
def test_frost_adds_a_part_of_a_photograph(
    photographs: list[np.ndarray], size: int, severity: int, kept: float, added: float
) -> None:
    images = (pictures(6, size) / 255 / 4).astype(np.float32)  # dark, so that nothing is cut off
    places = set()
    for image, found in zip(images, corrupted("frost", severity, images), strict=True):
        part = (found - kept * image) / added * 255
        whole = found.max(-1) < 1
        for number, photograph in enumerate(photographs):
            if number == 1:  # the small one
                continue
            # OpenCV's bilinear fifth of a picture is every fifth pixel, from the third on.
            shown = photograph if size == 200 else photograph[2::5, 2::5]
            windows = np.lib.stride_tricks.sliding_window_view(shown, (size, size), axis=(0, 1))
            near = np.abs(windows[:, :, 1, 8, 8] - part[8, 8, 1]) < 0.1
            for top, left in np.argwhere(near):
                window = windows[top, left].transpose(1, 2, 0)
                if np.abs(window - part)[whole].max() < 0.1:
                    places.add((number, int(top), int(left)))
    assert len(places) >= 3, places


def test_frost_enlarges_what_is_too_small(photographs: list[np.ndarray]) -> None:
    """Of 60 x 400 pixels, 200 x 1333 remain; of a fifth of those, 12 x 80, 16 x 107."""
    assert frost._photographs(200, 200)[1].shape == (200, 1333, 3)
    assert frost._photographs(16, 16)[1].shape == (16, 107, 3)


def test_frost_without_photographs_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frost.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps imagecorruptions"):
        corrupted("frost", 1)
    with pytest.raises(UserError, match="photographs of frost"):
        corruption_accuracy(lambda images: 1 / 0, SMALL, np.zeros(2, int), corruptions=["frost"])


def test_frost_is_the_published_packages() -> None:
    """Which enlarges its photographs by a tenth, unlike ImageNet-C; that is left out here."""
    module = published.load()
    rng = np.random.default_rng((3, 0))
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        # Its upper ends are one less than here, where the last row and column count.
        draw = lambda low, high=None: rng.integers(low, high and high + 1)  # noqa: E731
        enter(mock.patch.object(np.random, "randint", draw))
        place = str(frost._folder().parent)
        enter(mock.patch.object(module, "resource_filename", lambda _, path: f"{place}/{path}"))
        enter(mock.patch.object(module.cv2, "resize", lambda image, **_: image))
        expected = module.frost(Image.fromarray(LARGE[0]), 4) / 255
    found = corrupted("frost", 4, (LARGE / 255).astype(np.float32))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_severities_are_kept_however_they_are_given() -> None:
    measured = [
        corruption_accuracy(
            lambda images: images.mean((1, 2)),
            SMALL,
            np.zeros(len(SMALL), int),
            corruptions=["contrast"],
            severities=each,
        )
        for each in ([1, 4], iter([1, 4]), np.array([1, 4]))
    ]
    assert [one.severities for one in measured] == 3 * [(1, 4)]
    assert len({one.by_corruption["contrast"] for one in measured}) == 1


def test_mistakes_are_named() -> None:
    for text in ("fog", "fog:", "fog:x", "", "fog:-1"):
        with pytest.raises(UserError, match="NAME:SEVERITY"):
            Corruption.parse(text)
    with pytest.raises(UserError, match="one of gaussian_noise, .*received 'mist'"):
        Corruption.parse("mist:3")
    with pytest.raises(UserError, match="a severity of 1 to 5, received 6"):
        Corruption.parse("fog:6")
    with pytest.raises(UserError, match="16 pixels or more, received"):
        corrupt(SMALL[:, :8], Corruption("fog", 1))
    with pytest.raises(UserError, match="received int64"):
        corrupt(SMALL.astype(int), Corruption("fog", 1))
    assert str(Corruption.parse("fog:3")) == "fog:3"
