"""User-fixable errors, and checks of settings that raise them."""

import typing
from numbers import Integral
from typing import Any

_LONGEST = 200  # characters of a value in a message


class UserError(Exception):
    """A user-fixable error: a missing file, a wrong key, a bad checkpoint.

    The message says, in one or a few clear sentences, what was expected, what was received and what
    to do. Commands print it without a traceback and exit with code 2; any other exception is a bug
    in the package and exits with code 1.
    """


class Incomplete(Exception):  # noqa: N818 - all that could be done is done
    """All possible work is done and written; the message says what was not. Exit code 3."""


def require(condition: bool, key: str, expected: str, value: object) -> None:
    """Raise UserError, with the setting and its expected and actual value, unless `condition`."""
    if not condition:
        raise UserError(f"{key}: expected {expected}, received {shown(value)}")


def require_whole(value: Any, key: str, least: int = 1) -> int:
    """Return an integer, NumPy's too, as an int. Raises UserError for others, or below `least`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    require(whole and value >= least, key, f"a whole number, {least} or more", value)
    return int(value)


def require_choice(value: object, choices: Any, key: str) -> None:
    """Raise UserError unless a value is one of a Literal's, or of the names in a registry."""
    options = typing.get_args(choices) or tuple(choices)
    require(value in options, key, f"one of {', '.join(map(repr, options))}", value)


def shown(value: object) -> str:
    """Return a received value for a message, truncated if long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"
