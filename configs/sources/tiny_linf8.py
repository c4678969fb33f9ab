"""A small robust source: the Linf ball of 8/255, one step of PGD from a random start.

    python run.py --config configs/sources/tiny_linf8.py --workdir runs/tiny_linf8

This run produced `bundled:linf8`. The paper's own eps: an Linf radius does not depend on
the size of the image. The step is 1.25 eps, as "fast" adversarial training has it.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.sources.tiny_natural import get_config as tiny_natural


def get_config() -> ConfigDict:
    """The natural source's settings and the perturbation."""
    config = tiny_natural()
    config.pretraining.perturbation = "pgd"
    config.pretraining.norm = "linf"
    config.pretraining.eps = 8 / 255
    config.pretraining.steps = 1
    config.pretraining.relative_step = 1.25
    config.pretraining.random_start = True
    config.pretraining.keep = "last"
    return config
