"""python -m convert in a checkout: the command `rtl-jax convert`."""

import sys

from rtl_jax.convert.command import main
from rtl_jax.runtime.output import run_and_exit
from rtl_jax.runtime.program import typed

if __name__ == "__main__":
    run_and_exit(main, sys.argv[1:], typed("convert"))
