"""Reference of every setting: its type, its default and the comment at its field.

That is the comment after the field, or the comment lines directly above it. `rtl-jax settings`
prints the reference. Importing this module does not import JAX.
"""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Sequence
from typing import Any

from rtl_jax.errors import UserError
from rtl_jax.lab import settings


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting: its name after --config, what it takes, its default as typed, and description."""

    key: str
    takes: str
    default: str
    words: str


@dataclasses.dataclass(frozen=True)
class Group:
    """Settings that belong together; `name` is empty for those without a group."""

    name: str
    words: str
    settings: tuple[Setting, ...]


def groups(root: Any) -> list[Group]:
    """Return every group of an instance of settings, in order, those without a group first."""
    names = [field.name for field in dataclasses.fields(root)]
    nested = [name for name in names if dataclasses.is_dataclass(getattr(root, name))]
    alone = _group(type(root), root, "", [name for name in names if name not in nested])
    return [alone, *(_group(type(root), getattr(root, name), name) for name in nested)]


def group(root: Any, name: str) -> Group:
    """Return the group of that name. Raises UserError, listing the groups, if there is none."""
    found = {each.name: each for each in groups(root) if each.name}
    if name not in found:
        raise UserError(f"unknown group {name!r}: expected one of {', '.join(found)}")
    return found[name]


def _group(root: type, value: Any, name: str, fields: Sequence[str] | None = None) -> Group:
    """Describe a group's settings, or only those in `fields`."""
    words = _words(type(value))
    listed = []
    for field in fields or [field.name for field in dataclasses.fields(value)]:
        key = f"{name}.{field}" if name else field
        default = as_typed(getattr(value, field))
        listed.append(Setting(key, settings.expected(root, key), default, words[field]))
    return Group(name, inspect.cleandoc(type(value).__doc__ or ""), tuple(listed))


def as_typed(value: Any) -> str:
    """Format a value as on the command line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(as_typed, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(cls: type) -> dict[str, str]:
    """Return the comments at a dataclass's fields, including inherited ones; empty without one."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            found |= _own_words(base)
    return found


def _own_words(cls: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.removeprefix("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above: list[str] = []
            line = node.lineno - 1
            while line in comments and lines[line - 1].lstrip().startswith("#"):
                above.insert(0, comments[line])
                line -= 1
            kept = [text for text in above if not text.startswith("----")]
            found[node.target.id] = comments.get(node.end_lineno or 0) or " ".join(kept)
    return found
