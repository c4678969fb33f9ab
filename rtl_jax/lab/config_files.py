"""Config files that come with the package, by name: 'svhn_l2', 'paper/table7'."""

import ast
from pathlib import Path

import rtl_jax

DIRECTORY = Path(rtl_jax.__file__).parent / "configs"


def names() -> list[str]:
    """Return every config's name, those outside folders first."""
    paths = (path.relative_to(DIRECTORY) for path in DIRECTORY.rglob("*.py"))
    found = [path.with_suffix("").as_posix() for path in paths]
    return sorted(found, key=lambda name: (name.rpartition("/")[0], name))


def find(name: str) -> Path | None:
    """Return the file of a config, by its name with or without .py; None if there is none."""
    name = name.removesuffix(".py")
    return DIRECTORY / f"{name}.py" if name in names() else None


def summary(name: str) -> str:
    """Return the first line of a config's description."""
    text = (DIRECTORY / f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
