"""The command line of `run.py`: a config file, its overrides and a work directory."""

import contextlib
import io
from collections.abc import Sequence

from rtl_jax.config import Experiment, freeze
from rtl_jax.errors import UserError

USAGE = """\
usage: python run.py --config FILE [--config.GROUP.SETTING=VALUE ...] [--workdir DIR]

  --config FILE    a Python file with get_config(), such as configs/svhn_l2.py
  --config.X=V     another value for a setting, for example
                     --config.target.dataset=folder:photos --config.transfer.blocks=1
                   'none' where a setting may be empty; all settings: rtl_jax/config.py
  --workdir DIR    where rows, checkpoints and networks go (default: runs/NAME of the config);
                   the same command goes on where it was interrupted
"""


def parse(argv: Sequence[str]) -> tuple[Experiment, str]:
    """Read (experiment, work directory) from the command line behind the program's name.

    Raises UserError for an unknown flag or setting, a value of the wrong type, and a config
    file that cannot be read.
    """
    # Imported here, so that the rest of the package works where ml_collections is absent.
    from absl import flags
    from ml_collections import config_flags

    config_flags.register_flag_parser_for_type(int, _OptionalNumber(int))
    config_flags.register_flag_parser_for_type(float, _OptionalNumber(float))
    arguments = ["run.py", *argv]
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", flag_values=values, lock_config=True, sys_argv=arguments
    )
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            rest = values(arguments)
        if len(rest) > 1:
            raise UserError(f"unexpected {' '.join(rest[1:])!r}\n{USAGE}")
        if config.value is None:
            raise UserError(f"--config is missing\n{USAGE}")
        experiment = freeze(config.value)
    except UserError:
        raise
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise UserError(f"{message}\n{USAGE}") from error
    name = values["config"].config_filename.rsplit("/", 1)[-1].removesuffix(".py")
    return experiment, values["workdir"].value or f"runs/{name}"


class _OptionalNumber:
    """A number, or none."""

    syntactic_help = ""

    def __init__(self, kind: type):
        self._kind = kind

    def parse(self, text: str | float | None) -> int | float | None:
        """The number that `text` writes; None for 'none'."""
        return None if str(text).lower() == "none" else self._kind(text)

    def flag_type(self) -> str:
        """How a help text names the type."""
        return f"{self._kind.__name__} or none"
