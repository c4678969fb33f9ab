"""Digests of arrays, to name runs by content and to recognise copies of images."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np


def digest(arrays: Any, record: Mapping[str, Any] | None = None) -> str:
    """Return the sha256, in hex, of a pytree's names, dtypes, shapes and values, and a JSON record.

    It names runs by content, and detects corruption that Orbax, without checksums, does not.
    """
    total = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    for name, leaf in sorted((jax.tree_util.keystr(path), leaf) for path, leaf in leaves):
        array = np.asarray(leaf)
        values: Any = array.reshape(-1).view(np.uint8)
        total.update(f"{name}{array.dtype}{array.shape}".encode())
        total.update(values)
    return total.hexdigest()


def image_digests(images: Iterable[np.ndarray]) -> list[str]:
    """Return 16 hex digits for each of the images [N, H, W, C], uint8 or float in [0, 1].

    They identify the 8-bit content of an image: floats are rounded to grey levels, and three equal
    channels count as one, so that the digest does not depend on the representation.
    """
    return [_image_digest(image) for image in images]


def _image_digest(image: np.ndarray) -> str:
    if image.dtype != np.uint8:
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if image.shape[-1] == 3 and (image == image[..., :1]).all():
        image = image[..., :1]
    total = hashlib.blake2b(f"{image.shape}".encode(), digest_size=8)
    total.update(np.ascontiguousarray(image).data)
    return total.hexdigest()
