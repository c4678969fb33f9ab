"""The network inside a checkpoint, with every tensor accounted for.

Every tensor is part of the network, of a copy of it, or of its normalisation, or a counter, or else
an error.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtl_jax.convert import heads
from rtl_jax.convert.ambiguities import ask_of_names, said_by_parts
from rtl_jax.convert.checkpoint import Checkpoint, metadata_fields
from rtl_jax.convert.choices import DEFAULT, Choices
from rtl_jax.convert.holders import State, counted, find_state
from rtl_jax.convert.inert import shown
from rtl_jax.convert.layouts import known_architectures
from rtl_jax.convert.layouts.entry import COUNTER
from rtl_jax.convert.layouts.layout import Layout, mismatches
from rtl_jax.convert.misfits import does_not_fit
from rtl_jax.convert.normalization import Normalization, find_normalization, normaliser_names
from rtl_jax.convert.other_families import other_family
from rtl_jax.convert.tensors import Tensor
from rtl_jax.convert.timm_config import read_config
from rtl_jax.errors import UserError
from rtl_jax.models.registry import Architecture
from rtl_jax.runtime import limits
from rtl_jax.runtime.documents import is_whole

METADATA_KEY = "rtl_jax"

# `robustness` has two; each further one takes time, which a hostile file could multiply.
_MAX_NETWORKS = 8

_MAX_PREFIXES = 1000  # from which one may be chosen
# The floats of ml_dtypes, whose kind is 'V'.
_FLOATS = ("bfloat16", "float8")

# These compute nothing: BatchNorm's counter of batches, and AveragedModel's of models.
_COUNTERS = (COUNTER, "n_averaged")


@dataclasses.dataclass(frozen=True)
class Found:
    """A recognised network, whose weights are still in the file.

    `tensors` have the names of the layout's entries. `copies` maps the prefix of each further copy
    to its tensors. `notes` are lines for the user. `made_head` describes the placeholder for a
    missing head. `image_size` is what the file or a config beside it says.
    """

    layout: Layout
    architecture: Architecture
    normalization: Normalization
    tensors: Mapping[str, Tensor]
    copies: Mapping[str, Mapping[str, Tensor]]
    key: str
    prefix: str
    notes: Sequence[str]
    made_head: str | None = None
    image_size: int | None = None


def find(checkpoint: Checkpoint, choices: Choices = DEFAULT) -> Found:
    """Find the one network in a checkpoint.

    Raises UserError that names whatever is missing, left over or of the wrong shape.
    """
    state = find_state(checkpoint, choices)
    tensors, notes = state.tensors, list(state.notes)
    prefix, others = _chosen(state, choices)
    normalisers = normaliser_names(tensors)
    excused = {name for pair in normalisers for name in pair}
    everywhere = list(state.networks)
    layout, network = _laid_out(prefix, state, everywhere, excused)
    copies = {other: _under(layout, other, state, everywhere, excused) for other in others}
    if choices.prefix is not None:
        unused = [other for other in everywhere if other != prefix]
        notes += counted("networks that were not read, under", unused)
        others = unused
    config = read_config(checkpoint.path)
    metadata = metadata_fields(checkpoint, METADATA_KEY)
    size = metadata.pop("image_size", None)
    if not is_whole(size, 1, limits.IMAGE_SIZE):
        size = None if config is None else config.image_size
    if config is not None:
        said = layout.options_of_name(config.architecture) | config.options(layout)
        metadata = said | config.fields | {"origin": "file: config.json"} | metadata
        notes.append(f"read: config.json beside it, of timm's {shown(config.architecture)}")
    said = said_by_parts(layout, state, prefix, {**metadata, **choices.options}, checkpoint)
    metadata = {**said, **metadata}
    ask_of_names(checkpoint, layout, {**metadata, **choices.options})
    architecture = _architecture(layout, network, metadata, choices)
    own = set(network)
    made = _add_head(layout, network, architecture, _inner_head(state, prefix), choices, notes)
    for copy in copies.values():  # what was added to this network is missing in its copies, too
        copy |= {name: network[name] for name in network.keys() - own - copy.keys()}
    shapes = {name: tensor.shape for name, tensor in network.items()}
    problems = mismatches(layout, architecture, shapes)
    heads_names = {name for head in state.networks.values() for name in head.names("")}
    problems += [
        f"left over: {shown(name)} {tensor.shape}"
        for name, tensor in tensors.items()
        if not any(name.startswith(p) for p in (prefix, *others))
        and name not in excused
        and name not in heads_names
        and name.rpartition(".")[2] not in (*layout.unused, *_COUNTERS)
    ]
    if problems:
        raise does_not_fit(checkpoint, layout, architecture, problems, state.odd)
    if choices.arch not in (None, architecture.name):
        every = known_architectures()
        known = "" if choices.arch in every else f" (known: {', '.join(every)})"
        raise UserError(f"holds {architecture.name}, expected {choices.arch}{known}")
    claims = {"the file": checkpoint.entries.get("arch")}
    claims |= {"config.json": config.architecture} if config is not None else {}
    for who, claimed in claims.items():
        if isinstance(claimed, str) and claimed.partition(".")[0] != architecture.name:
            notes.append(
                f"warning: {who} calls its network {shown(claimed)!r}, and its tensors are those "
                f"of {architecture.name}: if they are not the same, --reference tells"
            )
    _check_numbers(layout, network)
    normalization = find_normalization(tensors, normalisers, metadata, choices.mean, choices.std)
    architecture = architecture.replace(mean=normalization.mean, std=normalization.std)
    return Found(
        layout,
        architecture,
        normalization,
        network,
        copies,
        state.key,
        prefix,
        notes,
        made,
        size,
    )


def load(tensor: Tensor, name: str) -> np.ndarray:
    """Load a tensor's values as float32, in torch's layout.

    Raises UserError for values that are not finite and for negative variances.
    """
    with np.errstate(over="ignore"):  # what is too large for float32 is reported below
        values = tensor.load().astype(np.float32, copy=False)
    if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        count = int(values.size - np.isfinite(values).sum())
        raise UserError(
            f"has {count:,} NaN or infinite values among the {values.size:,} of {name}: the "
            "training that wrote it diverged, or it is damaged"
        )
    if name.endswith("running_var") and values.size and values.min() < 0:
        raise UserError(f"has a negative variance in {name}: it is damaged")
    return values


def compare_copies(found: Found, report: Callable[[str], Any]) -> None:
    """Compare every further copy of the network with the one that is read, bit for bit.

    If an attacker's copy differs, this is reported. For any other one, a UserError is raised, since
    it may be the intended network.
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
                f"differ in {len(differing)} tensors: choose one, with --prefix {shown(prefix)} or "
                "the other"
            )


def _chosen(state: State, choices: Choices) -> tuple[str, list[str]]:
    """Return the prefix of the network to read, and those of its copies, which must equal it."""
    if len(state.networks) > _MAX_PREFIXES:
        raise UserError(
            f"holds {len(state.networks):,} networks: save one of them in a separate file"
        )
    if choices.prefix is not None:
        if not heads.complete({"": state.networks[choices.prefix]}) and choices.head is None:
            raise heads.without_head(choices.prefix, state.networks[choices.prefix])
        return choices.prefix, []
    found = heads.complete(state.networks) or list(state.networks)
    if len(found) > _MAX_NETWORKS:
        raise UserError(
            f"holds {len(found):,} networks, under {shown(found[0])!r}, {shown(found[1])!r}, ...: "
            "choose one with --prefix"
        )
    return found[0], found[1:]


def _architecture(
    layout: Layout, network: Mapping[str, Tensor], metadata: Mapping[str, Any], choices: Choices
) -> Any:
    shapes = {name: tensor.shape for name, tensor in network.items()}
    shapes.setdefault(f"{layout.heads[0]}.weight", (heads.NUM_CLASSES,))
    for name in choices.options:
        if name not in layout.options:
            raise UserError(f"holds {layout.words}, which has no --{name.replace('_', '-')}")
    known = {name: metadata[name] for name in layout.options if name in metadata}
    return layout.infer(shapes, {**known, **choices.options})


def _inner_head(state: State, prefix: str) -> str:
    """Return the name of the head's layer inside or outside the network; "" if there is none."""
    weights = state.networks[prefix].weights
    return weights[0].removeprefix(prefix).removesuffix(".weight") if weights else ""


def _add_head(
    layout: Layout,
    network: dict[str, Tensor],
    arch: Any,
    head: str,
    choices: Choices,
    notes: list[str],
) -> str | None:
    """Add a missing bias or head, and note it; return the manifest's entry for a made-up head."""
    weight, bias = f"{layout.heads[0]}.weight", f"{layout.heads[0]}.bias"
    if weight not in network:
        assert choices.head is not None
        network |= heads.made(choices.head, layout.heads[0], arch.num_features)
        notes.append(
            f"warning: a network without a head: --head {choices.head} added a placeholder, for "
            "fine-tuning to replace. Until then its predictions, and attacks, are meaningless"
        )
        return f"none of its own: {choices.head}"
    if choices.head is not None:
        raise UserError(f"has a head, and --head {choices.head} is for networks without one")
    if head not in layout.heads:
        notes.append(
            f"head: {shown(head)}, its only linear layer; layers without weights before it are "
            "taken for dropout"
        )
    if bias not in network:
        network[bias] = heads.zeros(network[weight].shape[:1])
        notes.append(f"head: {shown(head)} has no bias in the file: it is 0")
    return None


def _laid_out(
    prefix: str, state: State, others: Sequence[str], excused: set[str]
) -> tuple[Layout, dict[str, Tensor]]:
    """Return the layout of the network under a prefix, and its tensors by the layout's names."""
    candidates = state.networks[prefix].layouts
    signs = tuple(f"{prefix}{sign}" for layout in candidates for sign in layout.signs)
    names = [name for name in state.tensors if name.startswith(prefix)]
    if not any(name.startswith(signs) for name in names):
        names = list(state.tensors)  # only a first layer, which other families have, too
    if other := other_family(names):
        raise UserError(other)
    for layout in candidates:
        network = _under(layout, prefix, state, others, excused)
        if layout.fits({name: tensor.shape for name, tensor in network.items()}):
            return layout, network
    return candidates[0], _under(candidates[0], prefix, state, others, excused)


def _under(
    layout: Layout, prefix: str, state: State, others: Sequence[str], excused: set[str]
) -> dict[str, Tensor]:
    """Return the tensors under a prefix by the layout's names, without other networks' tensors."""
    head = state.networks[prefix].names(layout.heads[0])
    inner = [other for other in others if other != prefix and other.startswith(prefix)]
    under: dict[str, Tensor] = {}
    for name, tensor in state.tensors.items():
        if name not in head and (
            not name.startswith(prefix) or name in excused or name.startswith(tuple(inner))
        ):
            continue
        if name.rpartition(".")[2] == "n_averaged":
            continue
        ours = head.get(name) or layout.rename(name.removeprefix(prefix))
        if ours in under:
            raise UserError(f"holds {shown(ours)} twice, the second time as {shown(name)}")
        under[ours] = tensor
    return under


def _check_numbers(layout: Layout, network: Mapping[str, Tensor]) -> None:
    for name, tensor in network.items():
        plain = tensor.dtype.kind == "f" or tensor.dtype.name.startswith(_FLOATS)
        if not plain and not layout.computes_nothing(name):
            raise UserError(f"has {tensor.dtype} values in {name}, expected floating point")


def file_size_check(found: Found, path: Path) -> None:
    """Raise UserError if tensors claim more bytes than the file has, by sharing their values."""
    claimed = sum(tensor.num_bytes for tensor in found.tensors.values())
    size = path.stat().st_size
    if claimed > size:
        raise UserError(
            f"has tensors of {claimed:,} bytes in a file of {size:,}: they share their values, "
            "unlike those of a network"
        )
