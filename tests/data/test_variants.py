"""Low-pass and low-resolution variants compared with NumPy and PIL; tests on another dataset."""

import cmath
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtl_jax.data import load_dataset, variants
from rtl_jax.data.folder import plan_folder
from rtl_jax.data.transforms import prepare
from rtl_jax.data.variants import descending, low_pass
from rtl_jax.errors import UserError
from rtl_jax.lab.config import Target
from rtl_jax.lab.inputs import load_target

DIGITS = load_dataset("digits", data_dir=None, image_size=8)


def frequency(place: int, size: int) -> int:
    """Return the signed frequency at an index of a transform's axis."""
    return place if place < (size + 1) // 2 else place - size


def pictures(number: int, size: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(size).uniform(size=(number, size, size, channels))


def filtered(image: np.ndarray, zeroed: int) -> np.ndarray:
    """Apply a low-pass to [S, S, C] independently: sorted frequencies, and NumPy's FFT."""
    size = len(image)

    def rank(place: tuple[int, int]) -> tuple:
        opposite = (-place[0] % size, -place[1] % size)
        radius = sum(frequency(each, size) ** 2 for each in place)
        return -radius, min(place, opposite), place

    places = [(row, column) for row in range(size) for column in range(size)]
    highest = sorted(places, key=rank)[:zeroed]
    result = np.empty_like(image)
    for channel in range(image.shape[-1]):
        spectrum = np.fft.fft2(image[..., channel])
        for place in highest:
            spectrum[place] = 0
        result[..., channel] = np.fft.ifft2(spectrum).real
    return result


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("zeroed", [1, 2, 3, 5, 6, 7, 20, 21, 40, 60, 63])
def test_low_pass_is_numpys(size: int, zeroed: int):
    """Odd and even sizes; counts that split a circle of equal radii, or a pair."""
    images = pictures(2, size)
    expected = np.stack([filtered(image, zeroed) for image in images])
    np.testing.assert_allclose(low_pass(images, zeroed), expected, rtol=0, atol=1e-12)


def test_the_papers_low_pass_is_numpys():
    image = pictures(1, 224)
    np.testing.assert_allclose(low_pass(image, 1024)[0], filtered(image[0], 1024), atol=1e-12)


@pytest.mark.parametrize("size", [7, 8])
def test_frequencies_descend_and_opposite_ones_stay_together(size: int):
    order = [divmod(int(place), size) for place in descending(size)]
    assert sorted(order) == [(row, column) for row in range(size) for column in range(size)]
    radii = [math.hypot(frequency(a, size), frequency(b, size)) for a, b in order]
    assert radii == sorted(radii, reverse=True) and order[-1] == (0, 0)
    for index, (row, column) in enumerate(order):
        opposite = (-row % size, -column % size)
        assert opposite in order[max(index - 1, 0) : index + 2]


def test_a_wave_passes_or_does_not():
    """A single frequency by the definition of the transform, without any FFT."""
    size, (u, v) = 16, (3, 5)
    wave = np.array(
        [
            [cmath.exp(2j * cmath.pi * (u * y + v * x) / size).real for x in range(size)]
            for y in range(size)
        ]
    )[None, ..., None]
    order = [divmod(int(place), size) for place in descending(size)]
    last = max(order.index((u, v)), order.index((size - u, size - v)))
    np.testing.assert_allclose(low_pass(wave, last - 1), wave, atol=1e-12)
    np.testing.assert_allclose(low_pass(wave, last), wave / 2, atol=1e-12)  # half of the pair
    np.testing.assert_allclose(low_pass(wave, last + 1), 0, atol=1e-12)


def test_low_pass_twice_is_once_and_keeps_the_mean():
    images = pictures(2, 9)
    once = low_pass(images, 40)  # whole pairs
    np.testing.assert_allclose(low_pass(once, 40), once, atol=1e-12)
    means = images.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(low_pass(images, 80), np.broadcast_to(means, once.shape))


def varied(tmp_path: Path, **settings):
    return load_target(Target("digits", image_size=16, **settings), cache_dir=tmp_path)


@pytest.mark.parametrize("settings", [{"low_pass": 112}, {"low_pass_share": 112 / 256}])
def test_a_low_pass_set_is_enlarged_filtered_and_rounded(tmp_path: Path, settings: dict):
    found = varied(tmp_path, **settings)
    for half, stored in ((found.train, DIGITS.train), (found.test, DIGITS.test)):
        assert half.images.shape == (len(stored), 16, 16, 1)
        np.testing.assert_array_equal(half.labels, stored.labels)
        enlarged = np.asarray(prepare(stored.images[:4], 16), float)[..., :1]
        expected = np.stack([filtered(image, 112) for image in enlarged])
        assert expected.min() < 0  # so that there is something to clip
        error = half.images[:4] / 255 - np.clip(expected, 0, 1)
        assert np.abs(error).max() <= 0.5 / 255 + 1e-6
    # The network's own transform leaves them as they are.
    np.testing.assert_allclose(
        prepare(found.test.images[:4], 16)[..., :1], found.test.images[:4] / 255, atol=1e-6
    )


def test_a_low_pass_set_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = varied(tmp_path, low_pass=112)
    monkeypatch.setattr(variants, "low_pass", lambda *_: pytest.fail("computed again"))
    again = varied(tmp_path, low_pass=112)
    np.testing.assert_array_equal(again.test.images, first.test.images)
    with pytest.raises(pytest.fail.Exception):
        varied(tmp_path, low_pass=113)
    with pytest.raises(pytest.fail.Exception):
        varied(tmp_path, low_pass=112, classes=(1, 2))


def test_low_resolution_is_pils(tmp_path: Path):
    found = varied(tmp_path, low_resolution=3)
    assert found.train.images.shape == (1197, 3, 3, 1)
    for row in range(5):
        picture = Image.fromarray(DIGITS.test.images[row, ..., 0])
        small = picture.resize((3, 3), Image.Resampling.BILINEAR)
        # PIL rounds after each of its two passes.
        assert np.abs(found.test.images[row, ..., 0] - np.asarray(small, float)).max() <= 1
        large = np.asarray(small.resize((16, 16), Image.Resampling.BILINEAR)) / 255
        shown = np.asarray(prepare(found.test.images[row : row + 1], 16))[0, ..., 0]
        assert np.abs(shown - large).max() <= 2 / 255


def test_both_lower_the_resolution_first(tmp_path: Path):
    found = varied(tmp_path, low_resolution=3, low_pass=112)
    small = varied(tmp_path, low_resolution=3)
    enlarged = np.asarray(prepare(small.test.images[:2], 16), float)[..., :1]
    expected = np.stack([filtered(image, 112) for image in enlarged]).clip(0, 1)
    assert np.abs(found.test.images[:2] / 255 - expected).max() <= 0.5 / 255 + 1e-6


def test_variants_are_told_apart():
    target = Target("digits", image_size=16)
    changed = {"low_resolution": 3, "low_pass": 112}
    names = [dataclasses.replace(target, **{key: value}).variant for key, value in changed.items()]
    assert target.variant is None and names == ["low_resolution=3", "low_pass=112"]
    both = dataclasses.replace(target, **changed)
    assert both.variant == "low_resolution=3,low_pass=112"
    with pytest.raises(UserError, match="target.low_pass_share: expected none with target.low"):
        dataclasses.replace(target, low_pass=1, low_pass_share=0.5)


def test_there_is_no_resolution_to_lower(tmp_path: Path):
    with pytest.raises(
        UserError, match="low_resolution: expected at most the 8 pixels.*received 9"
    ):
        varied(tmp_path, low_resolution=9)


# ---- Tested on another set -----------------------------------------------------------------------


def write_pictures(path: Path, names: str, level: int, number: int = 2) -> None:
    """Write pictures with distinct levels from `level` on, class by class."""
    for place, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for index in range(number):
            pixels = np.full((8, 8), level + number * place + index, np.uint8)
            Image.fromarray(pixels).save(path / name / f"{index}.png")


def test_of_copies_those_of_held_out_pictures_are_tested(tmp_path: Path):
    write_pictures(tmp_path / "plain", "bca", 10, 5)
    write_pictures(tmp_path / "stylized", "abc", 100, 5)
    held_out = {f.parent.name: int(f.stem) for f, _ in plan_folder(tmp_path / "plain", 0).test}
    target = Target(
        f"folder:{tmp_path / 'plain'}",
        image_size=8,
        classes=(2, 0),
        test_dataset=f"folder:{tmp_path / 'stylized'}",
    )
    for _ in range(2):  # decoded, then from the cache
        found = load_target(target, cache_dir=tmp_path / "cache")
        assert found.class_names == ("c", "a")
        assert len(found.train) == 8 and found.train.images.max() < 25
        assert found.test.labels.tolist() == [1, 0]
        tested = [100 + held_out["a"], 110 + held_out["c"]]
        assert found.test.images[:, 0, 0, 0].tolist() == tested


def test_a_divided_folder_gives_its_test_half(tmp_path: Path):
    write_pictures(tmp_path / "plain" / "train", "ab", 10, 4)
    write_pictures(tmp_path / "plain" / "test", "ab", 20, 1)
    write_pictures(tmp_path / "other" / "train", "ab", 100)
    write_pictures(tmp_path / "other" / "test", "ab", 200, 1)
    target = Target(
        f"folder:{tmp_path / 'plain'}", image_size=8, test_dataset=f"folder:{tmp_path / 'other'}"
    )
    found = load_target(target, cache_dir=tmp_path / "cache")
    assert found.test.images[:, 0, 0, 0].tolist() == [200, 201]


def test_other_classes_are_one_error(tmp_path: Path):
    write_pictures(tmp_path / "plain", "abc", 10, 5)
    write_pictures(tmp_path / "other", "abd", 100)
    target = Target(
        f"folder:{tmp_path / 'plain'}", image_size=8, test_dataset=f"folder:{tmp_path / 'other'}"
    )
    with pytest.raises(UserError, match=r"tested on .*other: .*first are c, only in another d$"):
        load_target(target, cache_dir=tmp_path / "cache")
