"""Run an experiment: python run.py --config configs/svhn_l2.py --workdir runs/svhn_l2."""

import sys

from rtl_jax.command import main
from rtl_jax.runtime.output import run_and_exit

if __name__ == "__main__":
    run_and_exit(main, sys.argv[1:])
