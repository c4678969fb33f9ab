"""The network inside a checkpoint: which of its tensors are which, and all others accounted for.

Every tensor is part of the network, of a copy of it, of its normalisation, a counter, or an
error.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convert import layout
from convert.checkpoint import Checkpoint, metadata_fields
from convert.choices import DEFAULT, Choices
from convert.layout import COUNTER
from convert.normalization import Normalization, find_normalization, normaliser_names
from convert.pickles import Opaque, shown
from convert.tensors import Tensor, as_tensor
from rtl_jax.errors import UserError
from rtl_jax.models.architecture import ARCHITECTURES, OPTIONS, Architecture

# Where files keep the weights, in the order in which they are looked for.
_KEYS = ("model", "state_dict", "model_state_dict", "net", "network", "weights", "params")

METADATA_KEY = "rtl_jax"

# `robustness` has two of both; each more takes time that a hostile file could multiply.
_MAX_NETWORKS = 8

_MAX_PROBLEMS = 100


@dataclasses.dataclass(frozen=True)
class Found:
    """A network that was recognised; its weights are still in the file.

    `tensors` has torchvision's names. `copies` maps the prefix of each further copy to its
    tensors. `notes` are lines for the user.
    """

    architecture: Architecture
    normalization: Normalization
    tensors: Mapping[str, Tensor]
    copies: Mapping[str, Mapping[str, Tensor]]
    key: str
    prefix: str
    notes: Sequence[str]


def find(checkpoint: Checkpoint, choices: Choices = DEFAULT) -> Found:
    """Find the one network in a checkpoint.

    Raises UserError that names whatever is missing, left over or of the wrong shape.
    """
    key, state, notes = _state_dict(checkpoint)
    notes += _counted("skipped: entries that are no tensors", [
        name for name in state if as_tensor(state[name]) is None
    ])  # fmt: skip
    tensors = {name: tensor for name in state if (tensor := as_tensor(state[name]))}
    found = layout.prefixes(tensors)
    if len(found) > _MAX_NETWORKS:
        raise UserError(
            f"holds {len(found):,} networks, under {shown(found[0])!r}, {shown(found[1])!r}, ...: "
            "save the wanted one as a file of its own"
        )
    prefix, others = found[0], found[1:]
    normalisers = normaliser_names(tensors)
    excused = {name for pair in normalisers for name in pair}
    network = _under(prefix, tensors, others, excused)
    copies = {other: _under(other, tensors, found, excused) for other in others}
    shapes = {name: tensor.shape for name, tensor in network.items()}
    metadata = metadata_fields(checkpoint, METADATA_KEY)
    known_stem = metadata["stem"] if metadata.get("stem") in ("imagenet", "small") else None
    architecture = layout.infer(shapes, choices.stem or known_stem)
    options = {name: metadata[name] for name in OPTIONS if name in metadata} | choices.options
    architecture = architecture.replace(**options)
    problems = layout.mismatches(architecture, shapes)
    problems += [
        f"left over: {shown(name)} {tensor.shape}"
        for name, tensor in tensors.items()
        if not any(name.startswith(p) for p in found)
        and name not in excused
        and not name.endswith(COUNTER)
    ]
    if problems:
        hint = ""
        if sum("conv2.weight expected" in line for line in problems) == architecture.num_blocks:
            hint = "\nGrouped convolutions (ResNeXt) are not supported."
        if odd := _no_plain_tensor(state):
            hint += f"\nIt {odd}."
        if len(problems) > _MAX_PROBLEMS:
            problems[_MAX_PROBLEMS:] = [f"... and {len(problems) - _MAX_PROBLEMS:,} more"]
        raise UserError(
            f"does not fit {architecture.name} with {architecture.num_classes} classes, the "
            "nearest architecture:\n  " + "\n  ".join(problems) + hint
        )
    if choices.arch not in (None, architecture.name):
        known = "" if choices.arch in ARCHITECTURES else f" (known: {', '.join(ARCHITECTURES)})"
        raise UserError(f"holds {architecture.name}, expected {choices.arch}{known}")
    _check_numbers(network)
    normalization = find_normalization(tensors, normalisers, metadata, choices.mean, choices.std)
    architecture = architecture.replace(mean=normalization.mean, std=normalization.std)
    return Found(architecture, normalization, network, copies, key, prefix, notes)


def load(tensor: Tensor, name: str) -> np.ndarray:
    """A tensor's values in float32, in torch's layout; UserError unless all are finite."""
    with np.errstate(over="ignore"):  # what is too large for float32 is reported below
        values = tensor.load().astype(np.float32, copy=False)
    if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        count = int(values.size - np.isfinite(values).sum())
        raise UserError(
            f"has {count:,} NaN or infinite of {values.size:,} values in {name}: the training that "
            "wrote it diverged, or it is damaged"
        )
    if name.endswith("running_var") and values.size and values.min() < 0:
        raise UserError(f"has a negative variance in {name}: it is damaged")
    return values


def compare_copies(found: Found, report: Callable[[str], Any]) -> None:
    """Compare every further copy of the network with the one that is read, bit for bit.

    A copy of an attacker that differs is reported; any other one is a UserError, since it may
    be the network that was meant.
    """
    for prefix, copy in found.copies.items():
        differing = [
            name
            for name, tensor in found.tensors.items()
            if name not in copy
            or copy[name].shape != tensor.shape
            or not np.array_equal(tensor.load(), copy[name].load(), equal_nan=True)
        ]
        if not differing:
            report(f"skipped: a copy under {shown(prefix)} that is equal in every bit")
        elif "attacker." in prefix:
            report(
                f"warning: the copy under {shown(prefix)} differs in {len(differing)} tensors "
                f"({shown(differing[0])}, ...); it was not used"
            )
        else:
            raise UserError(
                f"holds two networks, under {shown(found.prefix)!r} and {shown(prefix)!r}, that "
                f"differ in {len(differing)} tensors: save the wanted one as a file of its own"
            )


def _state_dict(checkpoint: Checkpoint) -> tuple[str, Mapping[str, Any], list[str]]:
    """The dictionary that holds a whole network, the key it lies under, and notes on the rest."""
    top = checkpoint.entries
    candidates = {
        key: value for key, value in top.items() if isinstance(key, str) and isinstance(value, dict)
    }
    ordered = [("", top)]
    ordered += [(key, candidates[key]) for key in _KEYS if key in candidates]
    ordered += [(key, value) for key, value in candidates.items() if key not in _KEYS]
    once: dict[int, tuple[str, Mapping[str, Any]]] = {}  # many keys can hold the same dictionary
    for key, value in ordered:
        once.setdefault(id(value), (key, value))
    ordered = list(once.values())
    notes = _counted("placeholders: never run", checkpoint.placeholders)
    holders = [(key, state) for key, state in ordered if layout.prefixes(_tensor_names(state))]
    if not holders:
        raise _no_network(ordered, checkpoint.placeholders)
    key, state = holders[0]
    if key:
        notes += _counted(f"read: {shown(key)}; skipped", [other for other in top if other != key])
    notes += _counted(
        "warning: networks that were not used, save one as a file of its own to convert it",
        [other for other, _ in holders[1:]],
    )
    return key, {name: value for name, value in state.items() if isinstance(name, str)}, notes


def _tensor_names(state: Mapping[Any, Any]) -> list[str]:
    return [name for name in state if isinstance(name, str) and as_tensor(state[name])]


def _no_plain_tensor(state: Mapping[Any, Any]) -> str | None:
    """What stands in the place of a weight, such as a quantised tensor, or None."""
    for name, value in state.items():
        if isinstance(value, Opaque) and isinstance(name, str) and name.endswith(".weight"):
            return (
                f"has {shown(value)} as {shown(name)}: quantised, sparse and other weights that "
                "are no plain tensors are not supported"
            )
    return None


def _no_network(ordered: Sequence[tuple[str, Mapping]], placeholders: Sequence[str]) -> UserError:
    names = [name for _, state in ordered for name in _tensor_names(state)]
    for key, state in ordered:
        if odd := _no_plain_tensor(state):
            return UserError(odd)
        whole = [name for name in _KEYS if not key and isinstance(state.get(name), Opaque)]
        if whole and not names:
            return UserError(
                f"holds no weights under {whole[0]!r} but one object, {shown(state[whole[0]])}: "
                "load it where it came from and save its state dict, "
                "torch.save(model.state_dict(), path)"
            )
    if any(name == "conv1.weight" or name.endswith(".conv1.weight") for name in names) and any(
        "layer1.0." in name for name in names
    ):
        return UserError(
            "holds a ResNet without its head (no fc.weight): a source network is converted with it"
        )
    examples = ", ".join(shown(name) for name in names[:3])
    beside = f"; placeholders: {', '.join(placeholders[:5])}" if placeholders else ""
    if not names:
        keys = ", ".join(shown(key) for key in list(ordered[0][1])[:8])
        return UserError(
            f"holds no weights (its keys: {keys or 'none'}{beside}): expected a dictionary of "
            "tensors, or one under 'model' or 'state_dict'"
        )
    return UserError(
        f"holds no ResNet: expected tensors named conv1.weight, layer1.0.conv1.weight, ... and "
        f"fc.weight, after any prefix; it has {examples}, ...{beside}"
    )


def _under(
    prefix: str, tensors: Mapping[str, Tensor], others: Sequence[str], excused: set[str]
) -> dict[str, Tensor]:
    """The tensors under a prefix by torchvision's names, without those of the other networks."""
    inner = [other for other in others if other != prefix and other.startswith(prefix)]
    under: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith(prefix) or name in excused or name.startswith(tuple(inner)):
            continue
        ours = layout.torchvision_name(name.removeprefix(prefix))
        if ours in under:
            raise UserError(f"holds {shown(ours)} twice, the second time as {shown(name)}")
        under[ours] = tensor
    return under


def _check_numbers(network: Mapping[str, Tensor]) -> None:
    for name, tensor in network.items():
        # ml_dtypes' kinds are 'V'; of those bfloat16 alone has the range that weights need.
        if tensor.dtype.kind != "f" and tensor.dtype.name != "bfloat16" and COUNTER not in name:
            raise UserError(f"has {tensor.dtype} values in {name}, expected floating point")


def _counted(what: str, names: Sequence[Any]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return [f"{what}: {', '.join(shown(name) for name in names[:12])}{more}"]


def file_size_check(found: Found, path: Path) -> None:
    """Refuse tensors that claim more bytes than the file has, by sharing what it holds."""
    claimed = sum(tensor.num_bytes for tensor in found.tensors.values())
    size = path.stat().st_size
    if claimed > size:
        raise UserError(
            f"has tensors of {claimed:,} bytes in a file of {size:,}: they share their values, as "
            "a network's do not"
        )
