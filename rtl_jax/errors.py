"""User-fixable errors, and the check that raises them for a setting."""

import typing
from typing import Any

_LONGEST = 200  # characters of a value in a message


class UserError(Exception):
    """A user-fixable error: a missing file, a wrong key, a bad checkpoint.

    The message is one clear sentence or a few that say what was expected, what was
    received and what to do. The command lines print it without a traceback and exit
    with code 2; any other exception is a defect of ours and exits with code 1.
    """


class Incomplete(Exception):  # noqa: N818 - all that could be done is done
    """What could be done is done and written; the message says what could not. Exit code 3."""


def require(condition: bool, key: str, expected: str, value: object) -> None:
    """Raise UserError, naming the setting, what it takes and what it got, unless `condition`."""
    if not condition:
        raise UserError(f"{key}: expected {expected}, received {shown(value)}")


def require_choice(value: object, choices: Any, key: str) -> None:
    """`require` that a value is one of a Literal's, or of the names in a registry."""
    options = typing.get_args(choices) or tuple(choices)
    require(value in options, key, f"one of {', '.join(map(repr, options))}", value)


def shown(value: object) -> str:
    """What was received, for a message: cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"
