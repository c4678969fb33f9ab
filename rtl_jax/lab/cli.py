"""The command line of an experiment: a config, its overrides and a work directory."""

import difflib
import inspect
import os
import re
import runpy
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rtl_jax.errors import UserError
from rtl_jax.lab import config_files
from rtl_jax.lab.config import (
    NAMES,
    NUMBERS,
    Experiment,
    choices,
    expected,
    freeze,
    takes_names,
)
from rtl_jax.lab.settings import editable
from rtl_jax.runtime.program import typed

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def parse(argv: Sequence[str]) -> tuple[Experiment, str]:
    """Read (experiment, work directory) from the arguments after the program's name.

    Raises UserError for a flag or setting that is unknown or given twice, a value of the wrong
    type, or an unreadable config file.
    """
    given = _given(argv)
    for name in ("config", "workdir"):
        if name in given and not given[name]:
            raise UserError(f"--{name}: expected a value, received nothing; {_help()}")
    file, workdir = given.pop("config", None), given.pop("workdir", None)
    if file is None:
        raise UserError(f"--config is missing: expected --config FILE; {_help()}")
    place, argument = _place(file)
    config = editable(_load(place, argument))
    for name, text in given.items():
        _override(config, name.removeprefix("config."), text)
    experiment = freeze(config)
    _require_effect(experiment, {name.removeprefix("config.") for name in given})
    return experiment, os.path.expanduser(workdir or _usual_workdir(place, argument))


# The setting whose place each axis of a sweep takes, besides those of a training.
_REPLACED = {
    "sources": "source.checkpoint",
    "targets": "target.dataset",
    "blocks": "transfer.blocks",
    "num_images": "target.num_images",
    "epochs": "transfer.epochs",
    "folds": "target.fold",
    **{axis: f"transfer.{name}" for axis, name in {**NUMBERS, **NAMES}.items()},
}


# The axes that replace a setting in each task. `choose` reads no others, or both, as for sizes.
_AXES = {"sweep": tuple(_REPLACED), "my_images": tuple(_REPLACED), "choose": ("sources", "blocks")}


def _require_effect(experiment: Experiment, given: Collection[str]) -> None:
    """Raise UserError for a setting on the command line that another one makes ineffective."""
    for axis in _AXES.get(experiment.task, ()):
        key, values = _REPLACED[axis], getattr(experiment.sweep, axis)
        if key in given and values:
            listed = ",".join(map(str, values))
            raise UserError(
                f"{key}: has no effect, since the config sets sweep.{axis}={listed}: set "
                f"--config.sweep.{axis} instead"
            )
    if experiment.task == "my_images" and "transfer.blocks" in given:
        raise UserError(
            "transfer.blocks: has no effect with task 'my_images', which compares numbers of "
            "blocks: set --config.sweep.blocks instead"
        )
    if experiment.task == "predict" and "target.image_size" in given:
        raise UserError(
            "target.image_size: has no effect with task 'predict', which uses the network's own "
            "image size: leave it out"
        )


def _help() -> str:
    return f"{typed()} --help shows the usage"


def _usual_workdir(file: str, argument: str | None) -> str:
    """Return the default work directory, runs/NAME or runs/NAME_ARGUMENT."""
    words = (Path(file).stem, argument)
    return f"runs/{'_'.join(word.replace('/', '-') for word in words if word)}"


def _given(argv: Sequence[str]) -> dict[str, str | None]:
    """Return flags' values, or None, by name, such as 'config.transfer.blocks'."""
    given: dict[str, str | None] = {}
    rest = [*reversed(argv)]
    while rest:
        argument = rest.pop()
        if not argument.startswith("-"):
            raise UserError(
                f"unexpected {argument!r}: expected a flag, such as --config; {_help()}"
            )
        name, equals, text = argument.lstrip("-").partition("=")
        value: str | None = text
        if name.startswith("noconfig."):  # absl's form of a false boolean
            name, value = name.removeprefix("no"), "false"
        elif not equals:
            value = rest.pop() if rest and not rest[-1].startswith("--") else None
        if name not in ("config", "workdir") and not name.startswith("config."):
            close = difflib.get_close_matches(name, ["config", "workdir"], n=1)
            raise UserError(
                f"unknown flag --{name}{_did_you_mean(close, '--')}; "
                f"settings are written --config.GROUP.SETTING=VALUE; {_help()}"
            )
        if name in given:
            raise UserError(f"--{name} is given twice: expected it once")
        given[name] = value
    return given


def _override(config: "ConfigDict", key: str, text: str | None) -> None:
    # Imported here so that the rest of the package works without ml_collections.
    from absl import flags
    from ml_collections import config_flags

    kind = expected(key)
    if text is not None and text.lower() == "none" and "none" not in choices(key):
        config.update_from_flattened_dict({key: None})
        return
    if text and takes_names(key):
        # Taken verbatim: ml_collections would require quotation marks around each.
        config.update_from_flattened_dict({key: tuple(text.split(","))})
        return
    arguments = [typed(), f"--config.{key}" if text is None else f"--config.{key}={text}"]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        values(arguments)
    except (flags.Error, TypeError, ValueError) as error:
        received = "nothing" if text is None else repr(text)
        raise UserError(f"{key}: expected {kind}, received {received}") from error


def _place(named: str) -> tuple[str, str | None]:
    """Find the file that --config names, by path or among the package's; also its argument."""
    if Path(named).is_file():
        return named, None
    name, colon, argument = named.partition(":")
    path = Path(name)
    if path.is_file():
        return name, argument if colon else None
    if installed := config_files.find(name):
        return str(installed), argument if colon else None
    if path.is_dir():
        raise UserError(f"--config: expected a Python file, received the directory {name}")
    known = {Path(known).stem: known for known in config_files.names()}
    for folder in (path.parent, Path("configs")):
        known |= {file.stem: str(file) for file in folder.glob("*.py")}
    close = difflib.get_close_matches(path.stem, known, n=1)
    raise UserError(
        f"--config: there is no file {name}{_did_you_mean([known[c] for c in close])}; "
        f"{typed('configs')} lists those that come with rtl_jax"
    )


def _load(file: str, argument: str | None) -> Experiment:
    """Call a config file's get_config() and check what it returns."""
    try:
        get_config = runpy.run_path(file, run_name="config").get("get_config")
        if get_config is None:
            raise UserError("expected a function get_config(), found none")
        if argument is None:
            return freeze(get_config())
        if not inspect.signature(get_config).parameters:
            raise UserError(f"takes no argument, received {argument!r} after its name")
        return freeze(get_config(argument))
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except Exception as error:
        raise UserError(_fault(file, error)) from error


def _fault(file: str, error: Exception) -> str:
    """Say where a config file failed, and why, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    place, reason = file, str(error)
    if isinstance(error, SyntaxError):
        place, lines, reason = error.filename or file, [error.lineno], error.msg
    # ml_collections lists all the other settings of the group.
    reason = re.sub(r"Other fields present: .*?(?=Did you mean|$)", "", reason, flags=re.DOTALL)
    where = f"{place}, line {lines[-1]}" if lines and lines[-1] else place
    return f"{where}: {type(error).__name__}: {' '.join(reason.split())[:300]}"


def _did_you_mean(close: Sequence[str], prefix: str = "") -> str:
    return f" (did you mean {prefix}{close[0]}?)" if close else ""
