"""`rtl-jax sources`: bundled and published networks, by the names that settings take."""

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rtl_jax.errors import UserError
from rtl_jax.models import bundled

_ITEMS = 5  # of a list shown


def main(arguments: Sequence[str], prog: str = "rtl-jax sources") -> int:
    """Print all sources, or the details of some; return 0, or 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog, description="List the networks to start from.")
    parser.add_argument("names", metavar="NAME", nargs="*", help="show the details of these")
    names = parser.parse_args(arguments).names
    try:
        print("\n\n".join(map(_known, names)) if names else _everything(prog))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _known(name: str) -> str:
    """Return all that is known about a source, a line for each entry."""
    from rtl_jax.convert.published import KNOWN

    published = {label: each for each in KNOWN for label in (each.name, each.source)}
    if name in published:
        known = published[name]
        return _entries(known.name, dataclasses.asdict(known) | {"choices": known.flags})
    if "/" in name:
        raise UserError(
            f"there is no published source {name}: the command without a name lists all"
        )
    name = name.removeprefix("bundled:")
    card = dict(bundled.card(name))
    card.pop("settings", None)  # a page of them; `command` gives those that matter
    return _entries(f"bundled:{name}", card)


def _entries(title: str, entries: Mapping[str, Any]) -> str:
    said = {key: value for key, value in entries.items() if value not in (None, "", {})}
    return "\n".join([title, *(f"  {key}: {_short(value)}" for key, value in said.items())])


def _short(value: Any) -> str:
    """Return an entry's text: the first of many items, or without quotation marks."""
    if isinstance(value, list) and len(value) > _ITEMS:
        return f"{', '.join(map(str, value[:_ITEMS]))}, ... ({len(value):,} in all)"
    return str(value)


def _everything(prog: str) -> str:
    from rtl_jax.convert.published import KNOWN

    ready = [each for each in KNOWN if each.source.startswith("hf:") and not each.choices]
    others = [each for each in KNOWN if each not in ready]
    heading = ("network", "data", "trained against", "clean %", "robust %", "MB")

    def lines(name: str, chosen: Iterable[Any]) -> list[Sequence[str]]:
        return [
            (name, *heading),
            *((getattr(each, name), each.arch, each.data, each.threat, _percent(each.clean),
               _percent(each.robust), "" if each.num_bytes is None
               else f"{each.num_bytes / 1e6:.0f}") for each in chosen),
        ]  # fmt: skip

    convert = prog.replace("sources", "convert")
    return f"""\
Bundled small networks for 32 px: --config.source.checkpoint=bundled:NAME

{_table(_bundled())}

attacked: top-1 accuracy under PGD(20), L2 0.5, best iterate; roughness: total variation of the
input gradients; hours: training time on the machine that the card names.

Published, downloaded and converted on first use: --config.source.checkpoint=hf:...

{_table(lines("source", ready))}

Published, to be converted first: {convert} NAME DIRECTORY, and then
--config.source.checkpoint=DIRECTORY

{_table(lines("name", others))}

robust %: under AutoAttack at the radius of training, as measured by RobustBench. Accuracies are
the publishers' and RobustBench's, and empty where unknown. {prog} NAME shows the
details of one."""


def _bundled() -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("name", "trained against", "epochs", "clean %", "attacked %", "roughness", "hours", "MB")
    ]
    for name in bundled.names():
        card = bundled.card(name)
        size = (bundled.DIRECTORY / f"{name}.safetensors").stat().st_size
        numbers = (card["clean_accuracy"], card["robust_accuracy"])
        rows.append(
            (f"bundled:{name}", card["perturbation"], str(card["epochs"]),
             *(f"{number:.1f}" for number in numbers),
             f"{card['total_variation']:.2f}", f"{card['hours']:.2f}", f"{size / 1e6:.1f}")
        )  # fmt: skip
    return rows


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows in columns; those that are numeric below their heading are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = [
        all(cell.replace(".", "").isdecimal() or not cell for cell in column[1:])
        for column in zip(*rows, strict=True)
    ]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in rows
    )
