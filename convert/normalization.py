"""The mean and standard deviation of a network's input: from the user, the file, or assumed."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rtl_jax.convert.inert import shown
from rtl_jax.convert.tensors import Tensor
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import IMAGENET_MEAN, IMAGENET_STD

# The buffers' names: robustness; RobustBench and many wrappers; randomized smoothing.
_PAIRS = (("new_mean", "new_std"), ("mu", "sigma"), ("mean", "std"), ("means", "sds"))

# `robustness` has two; each further one takes time, which a hostile file could multiply.
_MAX_NORMALISERS = 32

Three = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Normalization:
    """The mean and standard deviation of a network's input, and where they come from."""

    mean: Three
    std: Three
    origin: str


def normaliser_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that hold a mean and a standard deviation."""
    names = set(names)
    pairs = []
    for name in sorted(names):
        level, _, last = name.rpartition(".")
        for mean, std in _PAIRS:
            partner = f"{level}.{std}" if level else std
            if last == mean and partner in names:
                pairs.append((name, partner))
    return sorted(pairs, key=lambda pair: ("attacker." in pair[0], len(pair[0]), pair))


def find_normalization(
    tensors: Mapping[str, Tensor],
    pairs: Sequence[tuple[str, str]],
    metadata: Mapping[str, Any],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Normalization:
    """Return the normalization for pixels in [0, 1]: as given, else the file's, else ImageNet's.

    `pairs` are the names of tensors that hold one. Raises UserError if they differ, or if the
    numbers cannot be those of pixels in [0, 1].
    """
    if (mean is None) != (std is None):
        raise UserError("needs --mean and --std together")
    if mean is not None and std is not None:
        return _checked(_three(mean, "--mean"), _three(std, "--std"), "given")
    if len(pairs) > _MAX_NORMALISERS:
        raise UserError(
            f"holds {len(pairs):,} normalisations: pass the right one with --mean and --std"
        )
    values: dict[tuple[Three, Three], str] = {}
    for m, s in pairs:
        values.setdefault((_numbers(tensors[m], m), _numbers(tensors[s], s)), shown(m))
    if len(values) > 1:
        listed = "; ".join(f"{name} {m}, std {s}" for (m, s), name in values.items())
        raise UserError(
            f"holds normalisations that differ ({listed}): pass the right one with --mean and --std"
        )
    if values:
        (((found_mean, found_std), name),) = values.items()
        return _checked(found_mean, found_std, f"file: {name}")
    if "mean" in metadata and "std" in metadata:
        found_mean, found_std = _three(metadata["mean"], "mean"), _three(metadata["std"], "std")
        origin = str(metadata.get("origin", "file: metadata"))
        return _checked(found_mean, found_std, origin)
    return Normalization(IMAGENET_MEAN, IMAGENET_STD, "assumed")


def _checked(mean: Three, std: Three, origin: str) -> Normalization:
    """Require what pixels in [0, 1] can have: means in [0, 1], deviations above 0 and up to 1."""
    if min(std) <= 0:
        raise UserError(f"has the normalisation std {std} ({origin}): it must be positive")
    if min(mean) < 0 or max(mean) > 1 or max(std) > 1:
        divided = [",".join(f"{value / 255:.6g}" for value in part) for part in (mean, std)]
        raise UserError(
            f"has the normalisation mean {mean}, std {std} ({origin}), which is not of pixels of "
            "[0, 1], as every network here takes them: for a network of pixels of 0 to 255 divide "
            f"both by 255, --mean {divided[0]} --std {divided[1]}"
        )
    return Normalization(mean, std, origin)


def _numbers(tensor: Tensor, name: str) -> Three:
    count = int(np.prod(tensor.shape))
    if count not in (1, 3):
        raise UserError(
            f"has a normalisation {shown(name)} of shape {tensor.shape}, expected 3 numbers or 1: "
            "pass the right ones with --mean and --std"
        )
    values = tensor.load().reshape(-1)
    # The shortest decimal that is the same float32: 0.485 and not 0.48500001430511475.
    return _three([float(str(value)) for value in values] * (3 // count), name)


def _three(values: Any, name: str) -> Three:
    try:
        first, second, third = (float(value) for value in values)
    except (TypeError, ValueError):
        raise UserError(
            f"has a normalisation {shown(name)} that is not three numbers: pass the right "
            "ones with --mean and --std"
        ) from None
    numbers = (first, second, third)
    if not np.isfinite(numbers).all():
        raise UserError(
            f"has a normalisation {shown(name)} {numbers}, which must be finite: pass the right "
            "one with --mean and --std"
        )
    return numbers
