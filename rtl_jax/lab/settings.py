"""Reading and checking of settings, which are frozen dataclasses nested in groups.

`config` declares them. Importing this module imports neither JAX nor ml_collections.
"""

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Optional

from rtl_jax.errors import UserError, require
from rtl_jax.runtime.hints import type_hints
from rtl_jax.runtime.program import typed

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def editable(settings: Any) -> "ConfigDict":
    """Return settings, or those of one group, as a locked and typed ConfigDict."""
    from ml_collections import ConfigDict, config_dict

    config = ConfigDict()
    hints = _hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            value = editable(value)
        elif value is None:
            value = config_dict.placeholder(_plain_type(hints[field.name]))
        config[field.name] = value
    return config.lock()


def _hints(cls: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields, by name."""
    every = type_hints(cls)
    return {field.name: every[field.name] for field in dataclasses.fields(cls)}


def expected(root: Any, key: str) -> str:
    """Describe what a setting of the dataclass `root`, such as 'transfer.blocks', takes.

    Raises UserError if there is no such setting.
    """
    return _words(_hint(root, key))


def takes_names(root: Any, key: str) -> bool:
    """Whether a setting is a list of names. Raises UserError if there is no such setting."""
    return str in _item_types(_hint(root, key))


def choices(root: Any, key: str) -> tuple[Any, ...]:
    """Return the values that a setting may have, if they are enumerated; otherwise, nothing.

    Raises UserError if there is no such setting.
    """
    hint = _hint(root, key)
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _hint(root: Any, key: str) -> Any:
    hint: Any = root
    for name in key.split("."):
        hints = _hints(hint) if dataclasses.is_dataclass(hint) else {}
        if name not in hints:
            raise _unknown(root, [key])
        hint = hints[name]
    return hint


def merge(base: Any, values: Mapping[str, Any]) -> Any:
    """Return `base` with the settings in `values`, checked."""
    return _merge(type(base), base, values, "")


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "whole numbers such as 1,2,3",
}


# Types of a tuple's items, by the type in its hint; for any other, whole numbers.
_ITEMS: dict[type, tuple[type, ...]] = {float: (int, float), str: (str,)}


@functools.cache
def _words(hint: Any) -> str:
    if dataclasses.is_dataclass(hint):
        # A group's own settings first, then inherited ones.
        own = [name for name in _hints(hint) if name in vars(hint)["__annotations__"]]
        names = [*dict.fromkeys([*own, *_hints(hint)])]
        return f"a group of settings ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    if float in _item_types(hint):
        return "numbers such as 0.1,0.2"
    if str in _item_types(hint):
        return "names such as a,b"
    return _WORDS[_plain_type(hint)] + (" or none" if type(None) in typing.get_args(hint) else "")


def _unknown(root: Any, keys: Iterable[str]) -> UserError:
    """Return an error that names unknown settings and, for each, the closest known one."""
    known = list(_leaves(root))
    found = []
    for key in keys:
        same = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
        close = same or difflib.get_close_matches(key, known, n=1)
        found.append(f"{key} (did you mean {close[0]}?)" if close else key)
    return UserError(f"unknown setting {', '.join(found)}: {typed('settings')} lists them all")


def _leaves(cls: Any, prefix: str = "") -> Iterable[str]:
    for name, hint in _hints(cls).items():
        if dataclasses.is_dataclass(hint):
            yield from _leaves(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


def _plain_type(hint: Any) -> type:
    """Return the type of a value: int for `int | None`, tuple for `tuple[int, ...]`."""
    if typing.get_origin(hint) in (types.UnionType, Optional, typing.Union):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is Literal:
        return str
    return typing.get_origin(hint) or hint


def _item_types(hint: Any) -> set[Any]:
    """Return the item types of a tuple's hint: float for `tuple[float, ...]`; else none."""
    arguments = typing.get_args(hint)
    inside = {item for argument in arguments for item in typing.get_args(argument)}
    return inside.union(arguments) if _plain_type(hint) is tuple else set()


def _merge(root: Any, base: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """Return `base` with the settings in `values`, checked."""
    hints = _hints(type(base))
    if unknown := [name for name in values if name not in hints]:
        raise _unknown(root, (f"{prefix}{name}" for name in unknown))
    arguments = {}
    for name, value in values.items():
        hint = hints[name]
        words = _words(hint)
        if dataclasses.is_dataclass(hint):
            require(isinstance(value, Mapping), prefix + name, words, value)
            arguments[name] = _merge(root, getattr(base, name), value, f"{prefix}{name}.")
        else:
            arguments[name] = _checked(value, hint, prefix + name)
    return dataclasses.replace(base, **arguments)


def _checked(value: Any, hint: Any, key: str) -> Any:
    kind = _plain_type(hint)
    if value is None:
        require(type(None) in typing.get_args(hint), key, _words(hint), value)
        return None
    if kind is tuple:
        items = tuple(value) if isinstance(value, list | tuple) else (value,)
        kinds = next((_ITEMS[kind] for kind in _item_types(hint) if kind in _ITEMS), (int,))
        require(all(type(item) in kinds for item in items), key, _words(hint), value)
        return tuple(map(float, items)) if float in kinds else items
    if kind is float and type(value) is int:
        value = float(value)
    require(type(value) is kind, key, _words(hint), value)
    return value
