"""The command `rtl-jax`: run an experiment, convert a checkpoint, list the available resources.

`python run.py` in a checkout and `python -m rtl_jax` are equivalent.
"""

import difflib
import sys
from pkgutil import resolve_name
from typing import NoReturn

from rtl_jax.errors import Incomplete, UserError
from rtl_jax.runtime.interruption import Stopped
from rtl_jax.runtime.output import run_and_exit
from rtl_jax.runtime.program import typed

# Subcommands: the function to call with the arguments and the preceding part of the command line,
# and its description. The function is imported on demand.
COMMANDS = {
    "convert": ("rtl_jax.convert.command:main", "convert a PyTorch checkpoint, or export one"),
    "sources": ("rtl_jax.command.sources:main", "list bundled and published source networks"),
    "configs": ("rtl_jax.command.configs:main", "list the configs that come with the package"),
    "settings": ("rtl_jax.command.settings:main", "list every setting, its type and its default"),
    "completion": ("rtl_jax.command.completion:main", "print a script for completion in bash, zsh"),
    "import-logs": ("rtl_jax.lab.report.importer:main", "turn a CSV log into rows for a report"),
}


def start() -> NoReturn:
    """Execute the command line and exit."""
    run_and_exit(main, sys.argv[1:])


def main(arguments: list[str]) -> int:
    """Execute the command line.

    Returns 0 on success, 2 for user-fixable errors, 3 if some inputs were broken and the others
    processed, 143 if SIGTERM stopped a training after it was saved.
    """
    if arguments and arguments[0] in COMMANDS:
        command: str = arguments[0]
        function = resolve_name(COMMANDS[command][0])
        return int(function(arguments[1:], typed(command)))
    if not arguments or {"-h", "--help"} & set(arguments):
        from rtl_jax.command.usage import usage

        print(usage({name: words for name, (_, words) in COMMANDS.items()}))
        return 0 if arguments else 2
    if arguments == ["--version"]:
        from rtl_jax.command.versions import versions

        print(versions())
        return 0
    try:
        _run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Incomplete as incomplete:
        print(f"incomplete: {incomplete}", file=sys.stderr)
        return 3
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return 143
    return 0


def _run(arguments: list[str]) -> None:
    # Imported here, where Ctrl-C is handled already.
    from rtl_jax.lab import cli, tasks

    if not arguments[0].startswith("-"):
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        like = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(
            f"unknown command {arguments[0]!r}{like}: expected {', '.join(COMMANDS)}, or a flag "
            f"such as --config; {typed()} --help shows the usage"
        )
    settings, workdir = cli.parse(arguments)
    tasks.run(settings, workdir)
