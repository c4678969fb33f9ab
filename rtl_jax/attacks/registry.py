"""Registry of attacks, by the names that settings and ensembles use."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from rtl_jax.errors import UserError

C = TypeVar("C", bound=type)


class Entry(NamedTuple):
    """A named attack.

    kind: its class, a frozen dataclass with a `norm` and a `display_name`.
    fixed: the values of the fields that the name determines.
    accepts: the fields that `make_attack` may set.
    """

    kind: type
    fixed: dict[str, Any]
    accepts: frozenset[str]


ATTACKS: dict[str, Entry] = {}


def register(
    name: str, *, accepts: tuple[str, ...] | None = None, **fixed: Any
) -> Callable[[C], C]:
    """Register the decorated dataclass as `name`, with some of its fields fixed.

    accepts: the other fields that `make_attack` may set; by default all.
    """

    def decorate(kind: C) -> C:
        if name in ATTACKS:
            raise ValueError(f"an attack named {name!r} exists: {ATTACKS[name].kind.__name__}")
        fields = {one.name for one in dataclasses.fields(kind) if one.init}
        chosen = frozenset(fields if accepts is None else accepts)
        ATTACKS[name] = Entry(kind, fixed, chosen - set(fixed))
        return kind

    return decorate


def attack_names(base: type = object) -> tuple[str, ...]:
    """List the registered attacks, optionally only those derived from a class."""
    return tuple(name for name, entry in ATTACKS.items() if issubclass(entry.kind, base))


def make_attack(name: str, **settings: Any) -> Any:
    """Make an attack by name: an `Attack`, or for 'autoattack' the ensemble `AutoAttack`.

    settings: `norm` and any others. Those that the attack does not accept are ignored, so that all
        attacks can share one group of settings.

    Raises UserError for an unknown name or a wrong setting.
    """
    if name not in ATTACKS:
        names = ", ".join(map(repr, ATTACKS))
        raise UserError(f"attack: expected one of {names}, received {name!r}")
    entry = ATTACKS[name]
    accepted = {key: value for key, value in settings.items() if key in entry.accepts}
    return entry.kind(**accepted, **entry.fixed)


def display_name(name: str, **settings: Any) -> str:
    """Return the name in figures and tables of an attack with these settings, e.g. 'PGD(20)'."""
    return make_attack(name, **settings).display_name
