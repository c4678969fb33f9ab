"""`rtl-jax completion`: completion of the command line in bash and zsh."""

import argparse
from collections.abc import Sequence

from rtl_jax.command import COMMANDS
from rtl_jax.lab import config_files
from rtl_jax.lab.config import Experiment
from rtl_jax.lab.settings_reference import groups

_SCRIPT = """\
[[ -n ${{ZSH_VERSION-}} ]] && autoload -U +X bashcompinit && bashcompinit
_rtl_jax() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} IFS=$'\\n'
  local commands='{commands}'
  local configs='{configs}'
  local options='{options}'
  COMPREPLY=()
  case ${{COMP_WORDS[COMP_CWORD-1]}} in
    --config) COMPREPLY=($(compgen -W "$configs" -- "$word"; compgen -f -- "$word")) ;;
    --workdir) COMPREPLY=($(compgen -d -- "$word")) ;;
    *)
      if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
        [[ ${{COMPREPLY[0]-}} == *= ]] && compopt -o nospace 2> /dev/null
      elif ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "$commands" -- "$word"))
      else
        COMPREPLY=($(compgen -f -- "$word"))
      fi ;;
  esac
}}
complete -F _rtl_jax rtl-jax
"""


def main(arguments: Sequence[str], prog: str) -> int:
    """Print a script that completes commands, configs and settings."""
    parser = argparse.ArgumentParser(
        prog,
        description="Print a script that completes commands, configs and settings in bash and zsh.",
        epilog=f'In ~/.bashrc, or after compinit in ~/.zshrc: eval "$({prog})"',
    )
    parser.parse_args(arguments)
    settings = [setting.key for each in groups(Experiment()) for setting in each.settings]
    print(
        _SCRIPT.format(
            commands="\n".join(COMMANDS),
            configs="\n".join(config_files.names()),
            options="\n".join(
                ["--config", "--workdir", "--help", "--version"]
                + [f"--config.{key}=" for key in settings]
            ),
        ),
        end="",
    )
    return 0
