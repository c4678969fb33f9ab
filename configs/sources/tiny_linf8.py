"""A small robust source: the Linf ball of 8/255, one step of PGD from a random start.

    python run.py --config configs/sources/tiny_linf8.py --workdir runs/tiny_linf8

This run produced `bundled:linf8`. The eps is the paper's, since an Linf radius does not depend on
the image size. The step is 1.25 eps, as in "fast" adversarial training.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.sources.tiny_natural import get_config as tiny_natural


def get_config() -> ConfigDict:
    """Return the natural source's settings with a perturbation."""
    config = tiny_natural()
    config.pretraining.perturbation = "pgd"
    config.pretraining.norm = "linf"
    config.pretraining.eps = 8 / 255
    config.pretraining.steps = 1
    config.pretraining.relative_step = 1.25
    config.pretraining.random_start = True
    config.pretraining.keep = "last"
    return config
