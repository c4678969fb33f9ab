"""python -m convert SOURCE DESTINATION, and python -m convert export CHECKPOINT OUT."""

import logging

from rtl_jax.convert.command import main
from rtl_jax.runtime.output import run_and_exit

if __name__ == "__main__":
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax's account of what we report
    run_and_exit(main)
