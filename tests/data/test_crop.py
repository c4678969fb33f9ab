"""The box of a random resized crop, compared with torchvision's, on the host and the device."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtl_jax.data.crop import DRAWS, TRIES, crop_box

SIZES = [(300, 400), (32, 32), (375, 500), (20, 500), (400, 31), (1, 9)]


def torchvision_box(draws, height, width, smallest):
    """Transcribe torchvision's RandomResizedCrop.get_params, with given random numbers."""
    scale, ratio = (smallest, 1.0), (3.0 / 4.0, 4.0 / 3.0)
    area = height * width
    log_ratio = (math.log(ratio[0]), math.log(ratio[1]))
    for k in range(10):
        target_area = area * (scale[0] + (scale[1] - scale[0]) * draws[k])
        aspect_ratio = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * draws[10 + k])
        w = round(math.sqrt(target_area * aspect_ratio))
        h = round(math.sqrt(target_area / aspect_ratio))
        if 0 < w <= width and 0 < h <= height:
            i = int(draws[20] * (height - h + 1))
            j = int(draws[21] * (width - w + 1))
            return i, j, h, w
    in_ratio = float(width) / float(height)
    if in_ratio < min(ratio):
        w = width
        h = round(w / min(ratio))
    elif in_ratio > max(ratio):
        h = height
        w = round(h * max(ratio))
    else:
        w = width
        h = height
    i = (height - h) // 2
    j = (width - w) // 2
    return i, j, h, w


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("smallest", [0.05, 0.9])
def test_the_box_is_torchvisions(height, width, smallest):
    assert (TRIES, DRAWS) == (10, 22)
    draws = np.random.default_rng(height + width).random((200, DRAWS))
    boxes = [crop_box(row, height, width, smallest) for row in draws]
    assert boxes == [torchvision_box(row, height, width, smallest) for row in draws]


def test_long_images_fall_back_to_the_middle():
    draws = np.full(DRAWS, 0.5)  # Half the area, square: higher than the image.
    assert crop_box(draws, 20, 500, 0.05) == (0, 236, 20, 27)
    assert crop_box(draws, 500, 20, 0.05) == (236, 0, 27, 20)


def test_the_device_draws_the_same_boxes():
    draws = np.random.default_rng(0).random((300, DRAWS)).astype(np.float32)
    compute = jax.jit(jax.vmap(lambda row: jnp.stack(crop_box(row, 60, 80, 0.1))))
    found = np.asarray(compute(draws))
    assert found.dtype == np.int32
    expected = np.array([torchvision_box(row.astype(float), 60, 80, 0.1) for row in draws])
    # In float32 a product may fall on the other side of a rounding.
    assert (found == expected).all(axis=1).mean() > 0.98
    assert np.abs(found - expected).max() <= 1
