"""Sizes inferred by majority vote over tensors, so that a single wrong one is later reported."""

import re
from collections import Counter
from collections.abc import Mapping

from rtl_jax.convert.layouts.entry import Shape
from rtl_jax.errors import UserError


def number_of(pattern: str, shapes: Mapping[str, Shape]) -> int:
    """Return one more than the largest number that `pattern`'s group finds at a name's beginning.

    Raises UserError if it exceeds the number of tensors.
    """
    search = re.compile(pattern)
    found = [int(match[1]) for name in shapes if (match := search.match(name))]
    count = max(found, default=-1) + 1
    if count > len(shapes):
        raise UserError(f"names block {count - 1}, and has {len(shapes)} tensors")
    return count


def size_of(pattern: str, axis: int, shapes: Mapping[str, Shape]) -> int:
    """Return the most common size along an axis of tensors whose whole name matches `pattern`.

    Raises UserError if none has that axis.
    """
    search = re.compile(pattern)
    votes = Counter(
        shape[axis]
        for name, shape in shapes.items()
        if search.fullmatch(name) and len(shape) > axis
    )
    if not votes:
        words = pattern.replace(r"\d+", "N").replace("\\", "")
        raise UserError(f"has no tensor {words} of {axis + 1} dimensions or more")
    return votes.most_common(1)[0][0]
