"""A hundred labelled digits and a head in closed form: which networks withstand attacks?

    python run.py --config configs/robust_digits.py --workdir runs/robust_digits
    python run.py --config configs/robust_digits_attack.py --workdir runs/robust_digits

`bundled:natural` and `bundled:l2`, frozen, with a ridge-regression head, five seeds each: under a
minute on two cores. Both reach 89 % without an attack (1-nearest-neighbour on raw pixels does,
too); the second command attacks the ten networks. Numbers to expect: docs/quickstart.md.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.sweep_digits import get_config as sweep_digits


def get_config() -> ConfigDict:
    """Ten heads without gradient descent; the networks are kept to be attacked."""
    config = sweep_digits()
    config.transfer.baseline = True
    config.sweep.blocks = (0,)
    config.sweep.num_images = (100,)
    config.sweep.head_fits = ("ridge",)
    config.sweep.keep_networks = True
    return config
