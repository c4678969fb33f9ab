"""Comparison of a converted network's logits with those of its author's own code.

`--check` compares the weights with torchvision's network. No file says which network the author
ran: a SiLU, a stride elsewhere, another normalisation have the same tensors. Only outputs tell.
"""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rtl_jax.convert.checkpoint import READ_ERRORS
from rtl_jax.convert.hub import expanded
from rtl_jax.convert.inert import shown
from rtl_jax.convert.variants import Variant, nearest
from rtl_jax.errors import UserError
from rtl_jax.models.network import Network

# Relative to the largest logit. Float32 differs by about 1e-6, TF32 and half precision by 1e-3.
TOLERANCE = 1e-4
_ROUNDING = 5e-3
# A variant nearer than the network itself by this factor is so for reasons other than rounding.
_NEARER = 5

_MAX_BYTES = 1 << 30
_MAX_IMAGES = 64
_SEARCHED = 4

_HOW = (
    "write it with numpy.savez(path, images=images, logits=logits), images float [N, 3, H, W] or "
    "[N, H, W, 3] in [0, 1] before any normalisation, logits [N, classes] of your model in eval "
    "mode"
)


class Reference(NamedTuple):
    """Images float32 [N, H, W, 3] in [0, 1] and the logits float32 [N, C] of the author's model."""

    path: Path
    images: np.ndarray
    logits: np.ndarray


def load_reference(path: Path) -> Reference:
    """Read the first 64 `images` and `logits` of a .npz file.

    Raises UserError if the file is absent, damaged, too large or holds something else.
    """
    path = expanded(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file: {_HOW}")
    try:
        images, logits = _arrays(path)
    except UserError:
        raise
    except (*READ_ERRORS, OSError, RuntimeError, SyntaxError, zlib.error) as error:
        raise UserError(
            f"{path}: cannot be read as a .npz file ({shown(error)}): {_HOW}"
        ) from error
    if images.ndim != 4 or 3 not in (images.shape[1], images.shape[-1]) or not len(images):
        raise UserError(f"{path}: images are {list(images.shape)}: {_HOW}")
    if images.dtype.kind != "f":
        raise UserError(f"{path}: images are {images.dtype}, expected float: divide them by 255")
    if logits.ndim != 2 or len(logits) != len(images) or logits.dtype.kind != "f":
        raise UserError(
            f"{path}: logits are {logits.dtype} {list(logits.shape)}, expected float "
            f"[{len(images)}, classes], a row for each image: {_HOW}"
        )
    images, logits = (part[:_MAX_IMAGES].astype(np.float32) for part in (images, logits))
    if not np.isfinite(logits).all():
        raise UserError(f"{path}: logits are not all finite")
    if not (images.min() >= -1e-6 and images.max() <= 1 + 1e-6):  # NaN fails too
        raise UserError(
            f"{path}: images are from {images.min():g} to {images.max():g}, expected [0, 1]: "
            "divide pixels of 0 to 255 by 255, and leave the normalisation to the network"
        )
    sums = logits.sum(1)
    if logits.shape[1] > 1 and logits.min() >= 0 and np.allclose(sums, 1, atol=1e-3):
        raise UserError(
            f"{path}: the rows of logits sum to 1, as probabilities do: save what the network "
            "gives before the softmax"
        )
    if images.shape[1] == 3 and images.shape[-1] != 3:
        images = images.transpose(0, 2, 3, 1)
    return Reference(path, np.ascontiguousarray(np.clip(images, 0, 1)), logits)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        if missing := {"images", "logits"} - set(names):
            raise UserError(
                f"{path}: has no {' and no '.join(sorted(missing))} (it has "
                f"{', '.join(map(ascii, names[:8])) or 'nothing'}): {_HOW}"
            )
        return _array(archive, "images", path), _array(archive, "logits", path)


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """Read one array, whose header must agree with its size in the archive."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is not a plain array")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > _MAX_BYTES or size > info.file_size:
        raise UserError(
            f"{path}: {name} declares {size:,} bytes, and has {info.file_size:,} (at most "
            f"{_MAX_BYTES:,} are read): a few images are enough"
        )
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def compare_reference(
    network: Network, reference: Reference, report: Callable[[str], Any]
) -> dict[str, Any]:
    """Compare the network's logits with the reference's; return the manifest's entry.

    Raises UserError if they differ by more than rounding, naming the known variant of the network
    that fits, or the nearest one.
    """
    path, images, logits = reference
    arch = network.architecture
    if logits.shape[1] != arch.num_classes:
        raise UserError(
            f"{path}: has logits of {logits.shape[1]} classes, and the network "
            f"{arch.num_classes}: it is of another network"
        )
    own = Variant("as it is", arch)
    with jax.default_matmul_precision("highest"):
        found = own.logits(network, images)
        off = distance(found, logits)
        best = None
        if off > TOLERANCE:
            report(f"reference: {off:.2g} of the largest logit off; looking for what fits")
            best = nearest(network, lambda variant, few: _off(variant, network, reference, few))
    where = f"{len(images)} images of {images.shape[1]}x{images.shape[2]} px of {path}"
    same = int((found.argmax(1) == logits.argmax(1)).sum())
    known = {"images": len(images), "largest_difference": off}
    if off <= TOLERANCE:
        report(f"reference: equal, within {off:.1e} of the largest logit, on {where}")
        return known
    assert best is not None
    name, best_off = best
    far = (
        f"{path}: these are not the logits of the network as it would be converted. They differ by "
        f"up to {off:.2g} of the largest, and {same} of {len(images)} images have the same class."
    )
    if best_off <= TOLERANCE or (off <= _ROUNDING and best_off * _NEARER < off):
        raise UserError(f"{far}\nWhat fits, within {best_off:.1e}: {name}. Nothing was written.")
    if off <= _ROUNDING:
        report(
            f"reference: equal up to rounding, within {off:.1e} of the largest logit, on {where}; "
            "logits computed on a CPU in float32 would allow a stricter comparison"
        )
        return known
    raise UserError(
        f"{far}\nOther activations, strides, eps, stems and normalisations do not explain it, "
        f"alone or in pairs; the nearest is still {best_off:.2g} away: {name}. Likely causes: "
        "dilation or other pooling, which no network here has; logits of another "
        "checkpoint; images that were resized or cropped on the way. Nothing was written."
    )


def distance(found: np.ndarray, logits: np.ndarray) -> float:
    """Return the largest difference of two [N, C], relative to the largest logit."""
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - logits).max() / max(np.abs(logits).max(), 1e-30))


def _off(variant: Variant, network: Network, reference: Reference, few: bool) -> float:
    count = _SEARCHED if few and not variant.train else len(reference.images)
    found = variant.logits(network, reference.images[:count])
    return distance(found, reference.logits[:count])
