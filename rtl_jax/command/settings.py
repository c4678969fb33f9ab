"""`rtl-jax settings`: every setting with its values, its default and a line of description."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Sequence

from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.settings_reference import Group, group, groups


def main(arguments: Sequence[str], prog: str = "rtl-jax settings") -> int:
    """Print all settings or those of some groups; return 0, or 2 for an unknown group."""
    parser = argparse.ArgumentParser(prog, description="List settings, their types and defaults.")
    parser.add_argument("groups", metavar="GROUP", nargs="*", help="transfer, attack, ...")
    names = parser.parse_args(arguments).groups
    try:
        chosen = [group(Experiment(), name) for name in names] or groups(Experiment())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    print("\n\n".join(_printed(each, width) for each in chosen))
    print("\nOn the command line: --config.GROUP.SETTING=VALUE")
    return 0


def _printed(group: Group, width: int) -> str:
    title, _, _ = group.words.partition("\n\n")
    lines = textwrap.wrap(f"{group.name}: {title}" if group.name else "in no group:", width)
    for setting in group.settings:
        default = f"default {setting.default}" if setting.default else "empty by default"
        head = f"{setting.key}: {setting.takes}; {default}"
        lines += textwrap.wrap(head, width, initial_indent="  ", subsequent_indent="    ")
        indent = " " * 6
        lines += textwrap.wrap(
            setting.words, width, initial_indent=indent, subsequent_indent=indent
        )
    return "\n".join(lines)
