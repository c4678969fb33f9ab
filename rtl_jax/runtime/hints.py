"""The types that classes declare, and checks of values against them."""

import functools
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rtl_jax.errors import require_choice


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
