"""The location of the network in a checkpoint: its dictionary, and the tensors in it."""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rtl_jax.convert import heads, reparametrizations
from rtl_jax.convert.checkpoint import Checkpoint
from rtl_jax.convert.choices import Choices
from rtl_jax.convert.constructors import StateDict, as_tensor
from rtl_jax.convert.heads import Head
from rtl_jax.convert.inert import Opaque, shown
from rtl_jax.convert.misfits import KEYS, no_network
from rtl_jax.convert.tensors import Tensor
from rtl_jax.errors import UserError

# Limits on nested dictionaries, sufficient for every trainer.
_MAX_DEPTH = 4
_MAX_DICTIONARIES = 1000


class State(NamedTuple):
    """The dictionary with the weights.

    key: its location, 'a.b' for a nested one. tensors: those that were not ignored, by name.
    networks: their heads by prefix. odd: a description of something that replaces a weight but is
    no plain tensor. notes: lines for the user. modules: the names of all modules of the network,
    including those without tensors, if the file has them.
    """

    key: str
    tensors: dict[str, Tensor]
    networks: dict[str, Head]
    odd: str | None
    notes: list[str]
    modules: tuple[str, ...] = ()


def find_state(checkpoint: Checkpoint, choices: Choices) -> State:
    """Find the dictionary that holds a network; with `choices.head`, it need not have a head.

    Raises UserError that says what is there instead.
    """
    every = _dictionaries(checkpoint.entries)
    notes = counted("placeholders: never run", checkpoint.placeholders)
    if choices.key is not None:
        every = [(key, value) for key, value in every if key == choices.key] or _no_key(
            choices.key, every
        )
    states = [_state(key, value, choices) for key, value in every]
    holders = [state for state in states if heads.complete(state.networks)]
    if choices.prefix is not None:
        holders = [state for state in states if choices.prefix in state.networks]
        known = [prefix for state in states for prefix in state.networks]
        if known and not holders:
            listed = ", ".join(repr(shown(prefix)) for prefix in known[:12])
            raise UserError(
                f"has no network under --prefix {choices.prefix!r}; those that it has: {listed}"
            )
    elif choices.head is not None:
        holders = holders or [state for state in states if state.networks]
    if not holders:
        raise no_network(checkpoint, every, states)
    chosen = holders[0]
    if choices.ignore:
        _check_ignored(choices.ignore, dict(every)[chosen.key])
    if chosen.key:
        first = chosen.key.split(".")[0]
        others = [other for other in checkpoint.entries if other not in (chosen.key, first)]
        read = f"read: {shown(chosen.key)}"
        notes += counted(f"{read}; skipped", others) or [read]
    notes += counted(
        "warning: networks that were not used, --key NAME converts one of them",
        [other.key for other in holders[1:]],
    )
    names = [name for name in dict(every)[chosen.key] if isinstance(name, str)]
    values = dict(every)[chosen.key]
    notes += counted(
        "skipped: entries that are no tensors", [n for n in names if as_tensor(values[n]) is None]
    )
    return chosen._replace(notes=notes + chosen.notes)


def _dictionaries(top: Mapping[Any, Any]) -> list[tuple[str, Mapping[Any, Any]]]:
    """Return the outermost dictionary and all nested ones by path, the likeliest first."""
    found: list[tuple[str, Mapping[Any, Any]]] = [("", top)]
    seen = {id(top)}  # many keys can hold the same dictionary
    level = found[:]
    for _ in range(_MAX_DEPTH):
        below: list[tuple[str, Mapping[Any, Any]]] = []
        for path, value in level:
            keys = [key for key, v in value.items() if isinstance(key, str) and isinstance(v, dict)]
            keys.sort(key=lambda key: KEYS.index(key) if key in KEYS else len(KEYS))
            for key in keys:
                if id(value[key]) in seen or len(found) + len(below) >= _MAX_DICTIONARIES:
                    continue
                seen.add(id(value[key]))
                below.append((f"{path}.{key}" if path else key, value[key]))
        found += below
        level = below
    return found


def _state(key: str, value: Mapping[Any, Any], choices: Choices) -> State:
    tensors = {
        name: tensor
        for name in value
        if isinstance(name, str) and (tensor := as_tensor(value[name]))
    }
    ignored = [name for name in tensors if _matches(name, choices.ignore)]
    for name in ignored:
        del tensors[name]
    tensors, notes = reparametrizations.computed(tensors)
    notes += counted("ignored", ignored)
    modules = value.modules if isinstance(value, StateDict) else ()
    return State(key, tensors, heads.networks(tensors), _odd(value), notes, modules)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _check_ignored(patterns: Sequence[str], value: Mapping[Any, Any]) -> None:
    names = [name for name in value if isinstance(name, str)]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            examples = ", ".join(shown(name) for name in names[:3])
            raise UserError(
                f"has no tensor that --ignore {pattern} matches; it has {examples}, ..."
            )


def _no_key(key: str, every: Sequence[tuple[str, Mapping]]) -> list[tuple[str, Mapping]]:
    known = [other for other, value in every if other and any(map(as_tensor, value.values()))]
    listed = ", ".join(shown(other) for other in known[:12]) or "none"
    raise UserError(f"has no dictionary under --key {key}; those that hold tensors: {listed}")


def _odd(state: Mapping[Any, Any]) -> str | None:
    """Describe what stands in for a weight, such as a quantised tensor; None if nothing does."""
    for name, value in state.items():
        if isinstance(value, Opaque) and isinstance(name, str) and name.endswith(".weight"):
            return (
                f"has {shown(value)} as {shown(name)}: quantised, sparse and other weights that "
                "are not plain tensors are not supported"
            )
    return None


def counted(what: str, names: Sequence[Any]) -> list[str]:
    """Return a note that lists the first twelve names, or nothing if there are none."""
    if not names:
        return []
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return [f"{what}: {', '.join(shown(name) for name in names[:12])}{more}"]
