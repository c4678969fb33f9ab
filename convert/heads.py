"""The last, linear layer of a network in a checkpoint: under another name, without bias, absent."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from convert.pickles import shown
from convert.tensors import Tensor
from rtl_jax.errors import UserError

# Classes of a head that is made up: no data set's, so that it is not taken for one that knows.
NUM_CLASSES = 2

# `fc`; `fc.1` behind a dropout; `head.fc` of timm; `classifier`, ...
_HEAD = re.compile(
    r"(fc|linear|head|classifier|last_linear|output|logits)(\.\w{1,30}){0,3}\.weight"
)
_MAX_LEVELS = 12
_FIRST = "conv1.weight"


class Head(NamedTuple):
    """The names of a network's linear layers behind its blocks; of a head that can be read, one."""

    weights: tuple[str, ...]

    @property
    def names(self) -> dict[str, str]:
        """The head's tensors by name, with torchvision's name for each; {} if there is not one."""
        if len(self.weights) != 1:
            return {}
        bias = self.weights[0].removesuffix("weight") + "bias"
        return {self.weights[0]: "fc.weight", bias: "fc.bias"}


def networks(tensors: Mapping[str, Tensor]) -> dict[str, Head]:
    """The head of every ResNet, by the prefix of its names; the one to read comes first.

    A ResNet has a first convolution and `layer1`, or a first convolution and a head. An attacker's
    copy comes last, since `robustness` evaluates the other; then the shorter prefix wins.
    """
    firsts = {
        name.removesuffix(_FIRST)
        for name in tensors
        if name == _FIRST or name.endswith(f".{_FIRST}")
    }
    levels: dict[str, list[str]] = {}
    with_blocks = set()
    for name, tensor in tensors.items():
        if not name.endswith(".weight") and "layer1.0." not in name:
            continue
        for level in _levels(name):
            inner = name[len(level) :]
            if inner.startswith("layer1.0."):
                with_blocks.add(level)
            elif _HEAD.fullmatch(inner) and (inner.count(".") == 1 or len(tensor.shape) == 2):
                levels.setdefault(level, []).append(name)
    shared = Counter(_parent(prefix) for prefix in firsts if prefix)
    found = {}
    for prefix in sorted(firsts, key=lambda p: ("attacker." in p, len(p), p)):
        own = levels.get(prefix, [])
        parent = _parent(prefix)
        if not own and prefix and parent not in firsts and shared[parent] == 1:
            own = [name for name in levels.get(parent, []) if not name.startswith(prefix)]
        own = [n for n in own if n in (f"{prefix}fc.weight", f"{prefix}linear.weight")] or own
        if own or prefix in with_blocks:
            found[prefix] = Head(tuple(own))
    return found


def _levels(name: str) -> list[str]:
    """'', 'a.', 'a.b.' of 'a.b.c', but not of an endless name."""
    parts = name.split(".", _MAX_LEVELS)[:-1]
    return ["".join(f"{part}." for part in parts[:count]) for count in range(len(parts) + 1)]


def _parent(prefix: str) -> str:
    return prefix[: prefix.rstrip(".").rfind(".") + 1]


def complete(found: Mapping[str, Head]) -> list[str]:
    """The prefixes of the networks that have a head which can be read."""
    return [prefix for prefix, head in found.items() if len(head.weights) == 1 or _twice(head)]


def _twice(head: Head) -> bool:
    return {name.rpartition(".weight")[0].rpartition(".")[2] for name in head.weights} == {
        "fc",
        "linear",
    }


def made(word: str, features: int) -> dict[str, Tensor]:
    """A head of `NUM_CLASSES`: zeros, or with seed:N uniform within 1 / sqrt(features)."""
    shapes = {"fc.weight": (NUM_CLASSES, features), "fc.bias": (NUM_CLASSES,)}
    if word == "zeros":
        return {name: zeros(shape) for name, shape in shapes.items()}
    draw, bound = np.random.default_rng(seed_of(word)), 1 / np.sqrt(max(features, 1))
    return {
        name: _given(draw.uniform(-bound, bound, shape).astype(np.float32))
        for name, shape in shapes.items()
    }


def seed_of(word: str) -> int:
    """N of 'seed:N'; UserError for anything else."""
    kind, _, number = word.partition(":")
    if kind != "seed" or not number.isdecimal() or len(number) > 18:
        raise UserError(f"--head: expected zeros or seed:N, such as seed:0, received {word!r}")
    return int(number)


def zeros(shape: tuple[int, ...]) -> Tensor:
    """A tensor of zeros that takes no bytes of the file."""
    return _given(np.zeros(shape, np.float32))


def _given(values: np.ndarray) -> Tensor:
    return Tensor(values.shape, values.dtype, lambda: values, 0)


def without_head(prefix: str, head: Head) -> UserError:
    """What is to be said of a network that has no head which can be read."""
    under = f" under {shown(prefix)!r}" if prefix else ""
    way = (
        "Fine-tuning replaces the head anyway: for a source of fine-tuning say --head zeros (or "
        "--head seed:N, which draws one)"
    )
    if not head.weights:
        return UserError(
            f"holds a ResNet{under} without its head: no linear layer is named fc, linear, head, "
            f"classifier, ... {way}"
        )
    listed = ", ".join(shown(name) for name in head.weights[:4])
    return UserError(
        f"holds a ResNet{under} whose head has {len(head.weights)} linear layers ({listed}), where "
        f"a network here has one. {way}, and leave them out with --ignore"
    )
