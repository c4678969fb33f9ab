"""Errors for files without a network that can be converted, with advice."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rtl_jax.convert import heads
from rtl_jax.convert.checkpoint import Checkpoint
from rtl_jax.convert.inert import Opaque, shown
from rtl_jax.convert.layouts import LAYOUTS
from rtl_jax.convert.layouts.layout import Layout
from rtl_jax.convert.other_families import other_family
from rtl_jax.errors import UserError
from rtl_jax.models.registry import Architecture

# Keys under which files keep the weights, in search order.
KEYS = ("model", "state_dict", "model_state_dict", "net", "network", "weights", "params")

_MAX_PROBLEMS = 100
_MAX_LINES = 10_000

_SHARD = re.compile(r"-(\d{1,5})-of-(\d{1,5})\.\w+$")


# Hints on unsupported features, by a part of a left-over name.
_HINTS = (
    (".filt ", "Blur pooling (anti-aliased networks) is not supported."),
    ("mean (3", "A mean without a deviation: pass both with --mean and --std, and --ignore it."),
    ("_scale ", "Quantised weights, which have scales, are not supported."),
    ("parametrizations.", "Of parametrizations only weight and spectral norms are supported."),
)


def does_not_fit(
    checkpoint: Checkpoint,
    layout: Layout,
    architecture: Architecture,
    problems: list[str],
    odd: str | None,
) -> UserError:
    """Return the error for a network whose tensors do not fit, given the lines of `mismatches`."""
    if part := _shard(checkpoint):
        return UserError(part)
    hints = layout.hints(architecture, problems)
    for piece, hint in _HINTS:
        if any(piece in line and line.startswith("left over") for line in problems[:_MAX_LINES]):
            hints.append(hint)
    if odd:
        hints.append(f"It {odd}.")
    if all(line.startswith("left over") for line in problems) and not hints:
        hints.append(
            "Everything that the network needs is there: --ignore 'PATTERN' leaves out what is no "
            "part of it, such as the tensors of a loss."
        )
    if len(problems) > _MAX_PROBLEMS:
        problems = [*problems[:_MAX_PROBLEMS], f"... and {len(problems) - _MAX_PROBLEMS:,} more"]
    return UserError(
        f"does not fit {architecture.name} with {architecture.num_classes} classes, the nearest "
        "architecture:\n  " + "\n  ".join(problems) + "".join(f"\n{hint}" for hint in hints)
    )


def _shard(checkpoint: Checkpoint) -> str | None:
    """Say what to do with one shard of a network that is saved in several files, or None."""
    match = _SHARD.search(checkpoint.path.name)
    if match is None or int(match[2]) < 2:
        return None
    return (
        f"is part {int(match[1])} of {int(match[2])} of a network that is saved in shards: put "
        "them together, safetensors.torch.save_file({**load_file(FIRST), **load_file(SECOND), ...}"
        ", PATH), and convert that"
    )


def no_network(
    checkpoint: Checkpoint, every: Sequence[tuple[str, Mapping]], states: Sequence[Any]
) -> UserError:
    """Return the error for a file in which no dictionary holds a network.

    `every` has its dictionaries by key, `states` the `holders.State` of each.
    """
    placeholders = checkpoint.placeholders
    names = [name for state in states for name in state.tensors]
    if (part := _shard(checkpoint)) and names:
        return UserError(part)
    for (key, value), state in zip(every, states, strict=True):
        if state.odd:
            return UserError(state.odd)
        whole = [name for name in KEYS if not key and isinstance(value.get(name), Opaque)]
        if whole and not names:
            return UserError(
                f"holds no weights under {whole[0]!r} but one object, {shown(value[whole[0]])}: "
                "load it where it came from and save its state dict, "
                "torch.save(model.state_dict(), path)"
            )
    if other := other_family(names):
        return UserError(other)
    for state in states:
        for prefix, head in state.networks.items():
            return heads.without_head(prefix, head)
    beside = f"; placeholders: {', '.join(placeholders[:5])}" if placeholders else ""
    if not names:
        keys = ", ".join(shown(key) for key in list(every[0][1])[:8])
        return UserError(
            f"holds no weights (its keys: {keys or 'none'}{beside}): expected a dictionary of "
            "tensors, or one under 'model' or 'state_dict'"
        )
    examples = ", ".join(shown(name) for name in names[:3])
    known = ", ".join(dict.fromkeys(layout.words for layout in LAYOUTS))
    return UserError(
        f"holds no network that is known here ({known}): expected tensors named as theirs, "
        "conv1.weight, layer1.0.conv1.weight, ... and fc.weight for a ResNet, after any prefix; it "
        f"has {examples}, ...{beside}"
    )
