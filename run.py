"""Run an experiment: python run.py --config configs/svhn_l2.py --workdir runs/svhn_l2."""

import sys

from rtl_jax.errors import Incomplete, UserError
from rtl_jax.runtime.interruption import Stopped
from rtl_jax.runtime.output import run_and_exit


def main(arguments: list[str]) -> int:
    """Run what the command line asks for.

    Returns 0, 2 for user-fixable errors, 3 where some of the inputs were broken and the others
    are done, 143 where SIGTERM has stopped a training that it let save.
    """
    # Imported here, where Ctrl-C is answered already.
    from rtl_jax.lab import cli, tasks

    if not arguments or {"-h", "--help"} & set(arguments):
        print(cli.USAGE)
        return 0 if arguments else 2
    try:
        settings, workdir = cli.parse(arguments)
        tasks.run(settings, workdir)
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


if __name__ == "__main__":
    run_and_exit(main, sys.argv[1:])
