"""The output of `rtl-jax --help`. Importing this module imports next to nothing."""

import ast
from collections.abc import Mapping
from pathlib import Path

import rtl_jax
from rtl_jax.runtime.program import typed

_USAGE = """\
usage: {program} --config NAME [--config.GROUP.SETTING=VALUE ...] [--workdir DIR]
       {program} COMMAND ...

  --config NAME    a config of the package, such as svhn_l2 or paper/table7, or a Python file
                   with get_config(); NAME:ARGUMENT gives get_config() an argument
  --config.X=V     override a setting, for example
                     --config.target.dataset=folder:photos --config.transfer.blocks=1
                   'none' leaves a setting empty, if it may be
  --workdir DIR    where rows, checkpoints and networks go (default: runs/NAME);
                   the same command resumes an interrupted run
  --version        print the versions of rtl_jax and of what it builds on

commands:
{commands}
  COMMAND --help shows what a command takes.

tasks, values of --config.task:
{tasks}
"""


def usage(commands: Mapping[str, str]) -> str:
    """Return the usage, the commands with their descriptions, and the tasks, a line each."""
    return _USAGE.format(
        program=typed(),
        commands=_table(commands),
        tasks=_table(tasks()),
    ).rstrip()


def tasks() -> dict[str, str]:
    """Return what each task does, by its name: the first line of its package."""
    found = {}
    for task in sorted((Path(rtl_jax.__file__).parent / "lab").glob("*/task.py")):
        words = ast.get_docstring(ast.parse((task.parent / "__init__.py").read_text())) or ""
        found[task.parent.name] = words.splitlines()[0].partition(": ")[2].rstrip(".")
    return found


def _table(words: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:15}  {line}" for name, line in words.items())
