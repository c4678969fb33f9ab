"""The pages of the site that code describes: settings, the doors of the library, result columns.

    python docs/reference.py     # rewrite the table of columns in docs/results.md

`docs/conf.py` calls `write`. Nothing else is generated into the repository.
"""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

from rtl_jax import attacks
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.results import SCHEMA
from rtl_jax.lab.settings_reference import Group, groups

RESULTS = Path(__file__).parent / "results.md"
TABLE = re.compile(r"(?<=\n)\| column \|.*?\n(?=\n)", re.DOTALL)

# Each door, what a reader finds behind it, and the names to show: all that it exports unless given.
DOORS = {
    "rtl_jax": (
        "Arrays in, networks and arrays out. [`rtl_jax.attacks`](rtl_jax.attacks.md) describes the "
        "attacks, which `rtl` exports too.",
        "",
    ),
    "rtl_jax.attacks": ("Attacks on any JAX model ([guide](../attacks.md)).", ""),
    "rtl_jax.data": ("Image sets and subsets ([guide](../data.md)).", ""),
    "rtl_jax.conformal": ("Prediction sets and outliers ([guide](../predict.md)).", ""),
    "rtl_jax.models.sources": ("Networks by name ([guide](../converting.md)).", "load_source"),
    "rtl_jax.models.network": ("A network and its weights.", "Network HeadWeights"),
    "rtl_jax.train.recipe": ("The settings of a training ([guide](../training.md)).", "Recipe"),
    "rtl_jax.train.finetuning": ("Fine-tuning on arrays.", "FineTuning start"),
    "rtl_jax.influence_functions": (
        "Influence functions of the head ([guide](../influence.md)).",
        "",
    ),
    "rtl_jax.sklearn": ("A scikit-learn classifier.", "TransferClassifier"),
    "rtl_jax.lab.results": ("Result rows ([guide](../results.md)).", "read_rows"),
}

# What a door exports and another page describes.
ELSEWHERE = {
    "rtl_jax": {name for name in attacks.__all__ if name[0].isupper()} | {"__version__", "sklearn"}
}

# Of a class whose base has documented methods in another project's terms: its own.
OWN_METHODS = {"TransferClassifier": " fit, predict, predict_proba"}


def write(directory: Path) -> None:
    """Write every generated page; files that would not change stay untouched."""
    directory.mkdir(exist_ok=True)
    pages = {"settings": settings_page(groups(Experiment()))}
    pages |= {name: door_page(name, *door) for name, door in DOORS.items()}
    for name, text in pages.items():
        path = directory / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def settings_page(found: list[Group]) -> str:
    """Every setting by group, from the dataclasses in rtl_jax/lab/config."""
    parts = [
        "# Settings",
        "Set any of these on the command line as `--config.GROUP.SETTING=VALUE`, or in a config "
        "file as `config.GROUP.SETTING = VALUE`. `none` stands for Python's `None`; tuples are "
        "separated by commas. The defaults are the paper's.",
    ]
    for group in found:
        title, words = group.name or "Top level", group.words if group.name else "In no group."
        parts += [f"## {title}", plain(words)]
        rows = [
            [f"`{each.key}`", plain(each.takes), literal(each.default), plain(each.words)]
            for each in group.settings
        ]
        lines = ["| setting | takes | default | meaning |", "|---|---|---|---|"]
        parts.append("\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]))
    return "\n\n".join(parts) + "\n"


def door_page(module: str, words: str, names: str) -> str:
    """What a module exports, described by its docstrings."""
    door = importlib.import_module(module)
    shown = names.split() or sorted(set(door.__all__) - ELSEWHERE.get(module, set()))
    parts = [f"# {module}", words, "```{eval-rst}", f".. currentmodule:: {module}"]
    if len(shown) > 2:
        listed = [name for name in shown if callable(getattr(door, name))]
        parts.append("\n   ".join([".. autosummary::", ":nosignatures:", "", *listed]))
    for name in shown:
        value = getattr(door, name)
        if inspect.isclass(value):
            parts.append(f".. autoclass:: {name}\n   :members:{OWN_METHODS.get(name, '')}")
        elif callable(value):
            parts.append(f".. autofunction:: {name}")
        else:
            parts.append(f".. py:data:: {name}\n\n   ``{short(value)}``")
    return "\n\n".join([*parts, "```"]) + "\n"


def schema_table() -> str:
    """The columns of a row, as docs/results.md has them."""
    rows = [f"| `{name}` | {kind} | {words} |" for name, (kind, words) in SCHEMA.items()]
    return "\n".join(["| column | type | meaning |", "|---|---|---|", *rows]) + "\n"


def short(value: object) -> str:
    """A dataclass with the fields that differ from their defaults."""
    if not dataclasses.is_dataclass(value):
        return repr(value)
    changed = (
        f"{field.name}={getattr(value, field.name)!r}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    )
    return f"{type(value).__name__}({', '.join(changed)})"


def plain(words: str) -> str:
    """Words for a cell of a table: one line, no sign that Markdown would take for its own."""
    return re.sub(r"([|<*])", r"\\\1", " ".join(words.split()))


def literal(value: str) -> str:
    """A default as it is typed; nothing for an empty one."""
    return f"`{value}`" if value else ""


if __name__ == "__main__":
    text, tables = TABLE.subn(lambda match: schema_table(), RESULTS.read_text())
    if tables != 1:
        raise SystemExit(f"{RESULTS}: expected one table of columns, found {tables}")
    RESULTS.write_text(text)
