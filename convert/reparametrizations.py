"""Weights stored in parts: with pruning, weight normalisation or spectral normalisation.

They are computed when the weight is read, as torch does in evaluation mode.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rtl_jax.convert.inert import shown
from rtl_jax.convert.tensors import Tensor
from rtl_jax.errors import UserError

# The words for each kind, and the names of its parts: a stem, in which {} is the weight's name, and
# their endings. torch's `parametrizations` have stems of their own.
_KINDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("pruned", "{}", ("_orig", "_mask")),
    ("spectrally normed", "{}", ("_orig", "_u", "_v")),
    ("spectrally normed", "parametrizations.{}.", ("original", "0._u", "0._v")),
    ("weight-normed", "{}", ("_g", "_v")),
    ("weight-normed", "parametrizations.{}.", ("original0", "original1")),
)
_WEIGHTS = ("weight", "bias")


def computed(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors with every weight in place of its parts, and a note for each kind.

    Raises UserError if the parts do not fit together.
    """
    whole = dict(tensors)
    notes: dict[str, list[str]] = {}
    for name in tensors:
        for kind, before, endings in _KINDS:
            target = _target(name, before, endings[0])
            if target is None or name not in whole:
                continue
            level, weight = target
            names = [f"{level}{before.format(weight)}{ending}" for ending in endings]
            if not all(part in whole for part in names) or f"{level}{weight}" in whole:
                continue
            parts = [whole.pop(part) for part in names]
            whole[f"{level}{weight}"] = _weight(kind, parts, f"{level}{weight}")
            notes.setdefault(kind, []).append(f"{level}{weight}")
    return whole, [
        f"{kind} weights are computed from their parts: {shown(names[0])}"
        + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for kind, names in notes.items()
    ]


def _target(name: str, before: str, ending: str) -> tuple[str, str] | None:
    """Return the level and name of the weight whose first part this is, or None."""
    for weight in _WEIGHTS:
        part = f"{before.format(weight)}{ending}"
        if name == part or name.endswith(f".{part}"):
            return name.removesuffix(part), weight
    return None


def _weight(kind: str, parts: Sequence[Tensor], name: str) -> Tensor:
    compute: Callable[[], np.ndarray]
    if kind == "pruned":
        original, mask = parts
        fits = mask.shape == original.shape
        compute = lambda: _values(original) * _values(mask)  # noqa: E731
    elif kind == "weight-normed":
        gain, original = parts
        fits = gain.shape == () or _is_gain(gain.shape, original.shape)
        compute = lambda: _normed(_values(gain), _values(original))  # noqa: E731
    else:
        original, left, right = parts
        rows, columns = original.shape[:1], (int(np.prod(original.shape[1:])),)
        fits = len(original.shape) > 1 and (left.shape, right.shape) == (rows, columns)
        compute = lambda: _spectral(*map(_values, parts))  # noqa: E731
    if not fits:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise UserError(f"has {shown(name)} {kind}, of parts that do not fit together: {shapes}")

    def load() -> np.ndarray:
        with np.errstate(all="ignore"):  # what is not finite is reported when it is read
            return compute().astype(np.float32)

    return Tensor(original.shape, np.dtype(np.float32), load, sum(part.num_bytes for part in parts))


def _values(part: Tensor) -> np.ndarray:
    return part.load().astype(np.float64)


def _is_gain(gain: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether a shape is the weight's in at most one dimension, and 1 in all others."""
    if len(gain) != len(weight):
        return False
    differing = [size for size, one in zip(weight, gain, strict=True) if one != 1]
    return len(differing) <= 1 and all(one in (1, s) for s, one in zip(weight, gain, strict=True))


def _normed(gain: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return gain * weight / |weight|, with a norm for each index of the gain's dimension."""
    if gain.ndim == 0:
        return weight * (gain / np.sqrt(np.square(weight).sum()))
    # A gain of size 1 everywhere belongs to the first dimension, torch's default.
    kept = max(range(gain.ndim), key=lambda axis: gain.shape[axis])
    others = tuple(axis for axis in range(weight.ndim) if axis != kept)
    return weight * (gain / np.sqrt(np.square(weight).sum(others, keepdims=True)))


def _spectral(weight: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Divide a weight by its largest singular value, as estimated by the two vectors."""
    return weight / (left @ weight.reshape(len(weight), -1) @ right)
