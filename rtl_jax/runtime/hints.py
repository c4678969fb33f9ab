"""The types that classes declare, and checks of values against them."""

import functools
import types
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Optional

from rtl_jax.errors import require, require_choice

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "whole numbers such as 1,2,3",
}

# Types of a tuple's items, by the type in its hint; for any other, whole numbers.
_ITEMS: dict[type, tuple[type, ...]] = {float: (int, float), str: (str,)}


def type_hints(cls: Any) -> Mapping[str, Any]:
    """Return the types of a class's fields, inherited ones included, by name.

    Kept, for typing evaluates every annotation anew: plans of large grids took most of their time
    for that.
    """
    return _kept(cls)


# Apart, for mypy takes a dataclass itself for as unhashable as its instances.
@functools.cache
def _kept(cls: Any) -> Mapping[str, Any]:
    return MappingProxyType(typing.get_type_hints(cls))


def require_choices(settings: object, group: str, *fields: str) -> None:
    """Raise UserError unless each of these fields has one of the values that its Literal lists."""
    hints = type_hints(type(settings))
    for field in fields:
        require_choice(getattr(settings, field), hints[field], f"{group}.{field}")


def plain_type(hint: Any) -> type:
    """Return the type of a value: int for `int | None`, tuple for `tuple[int, ...]`."""
    if typing.get_origin(hint) in (types.UnionType, Optional, typing.Union):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is Literal:
        return str
    return typing.get_origin(hint) or hint


def item_types(hint: Any) -> set[Any]:
    """Return the item types of a tuple's hint: float for `tuple[float, ...]`; else none."""
    arguments = typing.get_args(hint)
    inside = {item for argument in arguments for item in typing.get_args(argument)}
    return inside.union(arguments) if plain_type(hint) is tuple else set()


@functools.cache
def words(hint: Any) -> str:
    """Describe the values of a type."""
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    if float in item_types(hint):
        return "numbers such as 0.1,0.2"
    if str in item_types(hint):
        return "names such as a,b"
    return _WORDS[plain_type(hint)] + (" or none" if type(None) in typing.get_args(hint) else "")


def checked(value: Any, hint: Any, key: str) -> Any:
    """Return a value of this type: whole numbers become floats, single items tuples.

    Raises UserError, naming the setting `key`, for values of other types.
    """
    kind = plain_type(hint)
    if value is None:
        require(type(None) in typing.get_args(hint), key, words(hint), value)
        return None
    if kind is tuple:
        items = tuple(value) if isinstance(value, list | tuple) else (value,)
        kinds = next((_ITEMS[kind] for kind in item_types(hint) if kind in _ITEMS), (int,))
        require(all(type(item) in kinds for item in items), key, words(hint), value)
        return tuple(map(float, items)) if float in kinds else items
    if kind is float and type(value) is int:
        value = float(value)
    require(type(value) is kind, key, words(hint), value)
    return value
