"""The head, a linear layer, of a network in a checkpoint: renamed, without bias, or missing."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rtl_jax.convert.inert import shown
from rtl_jax.convert.layouts import LAYOUTS
from rtl_jax.convert.layouts.layout import Layout
from rtl_jax.convert.tensors import Tensor
from rtl_jax.errors import UserError

# Classes of a placeholder head: no data set's number, so that it is not taken for a trained one.
NUM_CLASSES = 2

# `fc`; `fc.1` after a dropout; timm's `head.fc`; `classifier`, ...
_HEAD = re.compile(
    r"(fc|linear|heads?|classifier|last_linear|output|logits)(\.\w{1,30}){0,3}\.weight"
)
_MAX_LEVELS = 12
_FIRSTS = sorted({first for layout in LAYOUTS for first in layout.first}, key=len, reverse=True)
_SIGN = re.compile("|".join(re.escape(sign) for layout in LAYOUTS for sign in layout.signs))


class Head(NamedTuple):
    """The names of the linear layers after a network's blocks; a readable head has just one.

    `layouts` are those that the network may have, judging by its first layer and its signs.
    """

    weights: tuple[str, ...]
    layouts: tuple[Layout, ...]

    def names(self, head: str) -> dict[str, str]:
        """Map the head's tensors to their names in a layout whose head is `head`.

        Returns {} unless there is exactly one layer.
        """
        if len(self.weights) != 1:
            return {}
        bias = self.weights[0].removesuffix("weight") + "bias"
        return {self.weights[0]: f"{head}.weight", bias: f"{head}.bias"}


def networks(tensors: Mapping[str, Tensor]) -> dict[str, Head]:
    """Return every network's head by the prefix of its names, the network to read first.

    A network has a layout's first layer, and a sign of it or a head. An attacker's copy comes last,
    since `robustness` evaluates the other; then shorter prefixes come first.
    """
    firsts: dict[str, list[str]] = {}
    for name in tensors:
        for first in _FIRSTS:
            if name == first or name.endswith(f".{first}"):
                firsts.setdefault(name.removesuffix(first), []).append(first)
    levels: dict[str, list[str]] = {}
    signs: dict[str, set[str]] = {}
    for name, tensor in tensors.items():
        for level in _levels(name):
            if level in firsts and (sign := _SIGN.match(name, len(level))):
                signs.setdefault(level, set()).add(sign[0])
            if not name.endswith(".weight"):
                continue
            inner = name[len(level) :]
            if _HEAD.fullmatch(inner) and (inner.count(".") == 1 or len(tensor.shape) == 2):
                levels.setdefault(level, []).append(name)
    shared = Counter(_parent(prefix) for prefix in firsts if prefix)
    found = {}
    for prefix in sorted(firsts, key=lambda p: ("attacker." in p, len(p), p)):
        own = levels.get(prefix, [])
        parent = _parent(prefix)
        if not own and prefix and parent not in firsts and shared[parent] == 1:
            own = [name for name in levels.get(parent, []) if not name.startswith(prefix)]
        there = signs.get(prefix, set())
        layouts = tuple(
            layout
            for layout in LAYOUTS
            if not {*layout.first}.isdisjoint(firsts[prefix])
            and (not there or not there.isdisjoint(layout.signs))
        )
        called = {f"{prefix}{head}.weight" for layout in layouts for head in layout.heads}
        own = [name for name in own if name in called] or own
        if layouts and (own or there):
            found[prefix] = Head(tuple(own), layouts)
    return found


def _levels(name: str) -> list[str]:
    """Return '', 'a.', 'a.b.' for 'a.b.c', up to a maximum depth."""
    parts = name.split(".", _MAX_LEVELS)[:-1]
    return ["".join(f"{part}." for part in parts[:count]) for count in range(len(parts) + 1)]


def _parent(prefix: str) -> str:
    return prefix[: prefix.rstrip(".").rfind(".") + 1]


def complete(found: Mapping[str, Head]) -> list[str]:
    """Return the prefixes of the networks that have a readable head."""
    return [prefix for prefix, head in found.items() if len(head.weights) == 1 or _twice(head)]


def _twice(head: Head) -> bool:
    """Whether several layers all have the name of a layout's head, so that one occurs twice."""
    names = {weight.removesuffix(".weight").rpartition(".")[2] for weight in head.weights}
    return len(head.weights) > 1 and any(names <= {*layout.heads} for layout in head.layouts)


def made(word: str, head: str, features: int) -> dict[str, Tensor]:
    """Make a head of `NUM_CLASSES`: zeros or, for seed:N, uniform within 1 / sqrt(features)."""
    shapes: dict[str, tuple[int, ...]] = {
        f"{head}.weight": (NUM_CLASSES, features),
        f"{head}.bias": (NUM_CLASSES,),
    }
    if word == "zeros":
        return {name: zeros(shape) for name, shape in shapes.items()}
    draw, bound = np.random.default_rng(seed_of(word)), 1 / np.sqrt(max(features, 1))
    return {
        name: _given(draw.uniform(-bound, bound, shape).astype(np.float32))
        for name, shape in shapes.items()
    }


def seed_of(word: str) -> int:
    """Return N of 'seed:N'. Raises UserError for anything else."""
    kind, _, number = word.partition(":")
    if kind != "seed" or not number.isdecimal() or len(number) > 18:
        raise UserError(f"--head: expected zeros or seed:N, such as seed:0, received {word!r}")
    return int(number)


def zeros(shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of zeros that takes no bytes of the file."""
    return _given(np.zeros(shape, np.float32))


def _given(values: np.ndarray) -> Tensor:
    return Tensor(values.shape, values.dtype, lambda: values, 0)


def without_head(prefix: str, head: Head) -> UserError:
    """Return the error for a network without a readable head."""
    words = head.layouts[0].words
    under = f" under {shown(prefix)!r}" if prefix else ""
    way = (
        "Fine-tuning replaces the head anyway: for a source of fine-tuning pass --head zeros (or "
        "--head seed:N, which draws one)"
    )
    if not head.weights:
        return UserError(
            f"holds {words}{under} without its head: no linear layer is named fc, linear, head, "
            f"classifier, ... {way}"
        )
    listed = ", ".join(shown(name) for name in head.weights[:4])
    return UserError(
        f"holds {words}{under} whose head has {len(head.weights)} linear layers ({listed}), where "
        f"a network here has one. {way}, and leave them out with --ignore"
    )
