"""The command line of `run.py`: a config file, its overrides and a work directory."""

import difflib
import os
import re
import runpy
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rtl_jax.errors import UserError
from rtl_jax.lab.config import Experiment, expected, freeze, takes_names
from rtl_jax.lab.settings import editable

if TYPE_CHECKING:
    from ml_collections import ConfigDict

USAGE = """\
usage: python run.py --config FILE [--config.GROUP.SETTING=VALUE ...] [--workdir DIR]

  --config FILE    a Python file with get_config(), such as configs/svhn_l2.py
  --config.X=V     another value for a setting, for example
                     --config.target.dataset=folder:photos --config.transfer.blocks=1
                   'none' where a setting may be empty; all settings: rtl_jax/lab/config/
  --workdir DIR    where rows, checkpoints and networks go (default: runs/NAME of the config);
                   the same command goes on where it was interrupted
"""

_HELP = "python run.py --help shows the usage"


def parse(argv: Sequence[str]) -> tuple[Experiment, str]:
    """Read (experiment, work directory) from the command line behind the program's name.

    Raises UserError for a flag or setting that is unknown or given twice, a value of the
    wrong type, and a config file that cannot be read.
    """
    given = _given(argv)
    for name in ("config", "workdir"):
        if name in given and not given[name]:
            raise UserError(f"--{name}: expected a value, received nothing; {_HELP}")
    file, workdir = given.pop("config", None), given.pop("workdir", None)
    if file is None:
        raise UserError(f"--config is missing: expected --config FILE; {_HELP}")
    config = editable(_load(file))
    for name, text in given.items():
        _override(config, name.removeprefix("config."), text)
    return freeze(config), os.path.expanduser(workdir or f"runs/{Path(file).stem}")


def _given(argv: Sequence[str]) -> dict[str, str | None]:
    """Flags by name, 'config.transfer.blocks' for example, with their values; None: no value."""
    given: dict[str, str | None] = {}
    rest = [*reversed(argv)]
    while rest:
        argument = rest.pop()
        if not argument.startswith("-"):
            raise UserError(f"unexpected {argument!r}: expected a flag, such as --config; {_HELP}")
        name, equals, text = argument.lstrip("-").partition("=")
        value: str | None = text
        if name.startswith("noconfig."):  # as absl writes a boolean that is false
            name, value = name.removeprefix("no"), "false"
        elif not equals:
            value = rest.pop() if rest and not rest[-1].startswith("--") else None
        if name not in ("config", "workdir") and not name.startswith("config."):
            close = difflib.get_close_matches(name, ["config", "workdir"], n=1)
            raise UserError(
                f"unknown flag --{name}{_did_you_mean(close, '--')}; "
                f"settings are written --config.GROUP.SETTING=VALUE; {_HELP}"
            )
        if name in given:
            raise UserError(f"--{name} is given twice: expected it once")
        given[name] = value
    return given


def _override(config: "ConfigDict", key: str, text: str | None) -> None:
    # Imported here, so that the rest of the package works where ml_collections is absent.
    from absl import flags
    from ml_collections import config_flags

    kind = expected(key)
    if text is not None and text.lower() == "none":
        config.update_from_flattened_dict({key: None})
        return
    if text and takes_names(key):
        # As they are: ml_collections would want each in quotation marks.
        config.update_from_flattened_dict({key: tuple(text.split(","))})
        return
    arguments = ["run.py", f"--config.{key}" if text is None else f"--config.{key}={text}"]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        values(arguments)
    except (flags.Error, TypeError, ValueError) as error:
        received = "nothing" if text is None else repr(text)
        raise UserError(f"{key}: expected {kind}, received {received}") from error


def _load(file: str) -> Experiment:
    """What a config file's get_config() returns, checked."""
    path = Path(file)
    if path.is_dir():
        raise UserError(f"--config: expected a Python file, received the directory {file}")
    if not path.is_file():
        known = [str(p) for folder in (path.parent, Path("configs")) for p in folder.glob("*.py")]
        names = {Path(p).stem: p for p in known}
        close = difflib.get_close_matches(path.stem, names, n=1)
        raise UserError(
            f"--config: there is no file {file}{_did_you_mean([names[c] for c in close])}"
        )
    try:
        module = runpy.run_path(file, run_name="config")
        if "get_config" not in module:
            raise UserError("expected a function get_config(), found none")
        return freeze(module["get_config"]())
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except Exception as error:
        raise UserError(_fault(file, error)) from error


def _fault(file: str, error: Exception) -> str:
    """Where a config file failed, and why, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    place, reason = file, str(error)
    if isinstance(error, SyntaxError):
        place, lines, reason = error.filename or file, [error.lineno], error.msg
    # ml_collections lists all other settings of the group, at length.
    reason = re.sub(r"Other fields present: .*?(?=Did you mean|$)", "", reason, flags=re.DOTALL)
    where = f"{place}, line {lines[-1]}" if lines and lines[-1] else place
    return f"{where}: {type(error).__name__}: {' '.join(reason.split())[:300]}"


def _did_you_mean(close: Sequence[str], prefix: str = "") -> str:
    return f" (did you mean {prefix}{close[0]}?)" if close else ""
