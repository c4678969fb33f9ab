"""Inert stand-ins for the names in a pickle, and how they are printed."""

from typing import Any, NamedTuple

from rtl_jax.errors import UserError


class RefusedError(UserError):
    """The pickle names a way to run code."""


class Global(NamedTuple):
    """A name that the pickle mentions; nothing was imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Opaque:
    """The inert stand-in for an object whose class is not on the allow-list."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<placeholder for {self.name}>"


class Attribute(Opaque):
    """The inert stand-in for a function of a class, which nothing in the pickle may call."""

    __slots__ = ()


class Buildable:
    """An object of ours that receives its state in a second step, as numpy's arrays do."""

    def build(self, state: Any) -> None:
        """Take the state; raise ValueError if it is not of the expected form."""
        raise NotImplementedError


def shown(value: object) -> str:
    """Format a name or number from an untrusted file safely: ASCII, no control codes, short.

    For any other object, only the type is shown, since a small pickle can have an endless `repr`.
    """
    if type(value) is int and value.bit_length() <= 64:
        return str(value)
    if not isinstance(value, str | Global | Opaque | Exception):
        return type(value).__name__
    text = ascii(str(value)[:200])[1:-1]
    return text if len(text) <= 160 else text[:157] + "..."


def is_plain_key(key: Any) -> bool:
    """Whether a key hashes quickly and cannot be made to collide; weights have strings."""
    if type(key) is int:
        return key.bit_length() <= 64
    return type(key) in (str, bytes, float, bool, type(None))
