"""Reading and checking of settings, which are frozen dataclasses nested in groups.

`config` declares them. Importing this module imports neither JAX nor ml_collections.
"""

import dataclasses
import difflib
import functools
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from rtl_jax.errors import UserError, require
from rtl_jax.runtime.hints import checked, item_types, plain_type, type_hints, words
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
            value = config_dict.placeholder(plain_type(hints[field.name]))
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
    return str in item_types(_hint(root, key))


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


@functools.cache
def _words(hint: Any) -> str:
    if dataclasses.is_dataclass(hint):
        # A group's own settings first, then inherited ones.
        own = [name for name in _hints(hint) if name in vars(hint)["__annotations__"]]
        names = [*dict.fromkeys([*own, *_hints(hint)])]
        return f"a group of settings ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
    return words(hint)


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


def _merge(root: Any, base: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """Return `base` with the settings in `values`, checked."""
    hints = _hints(type(base))
    if unknown := [name for name in values if name not in hints]:
        raise _unknown(root, (f"{prefix}{name}" for name in unknown))
    arguments = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            require(isinstance(value, Mapping), prefix + name, _words(hints[name]), value)
            arguments[name] = _merge(root, getattr(base, name), value, f"{prefix}{name}.")
        else:
            arguments[name] = checked(value, hint, prefix + name)
    return dataclasses.replace(base, **arguments)
