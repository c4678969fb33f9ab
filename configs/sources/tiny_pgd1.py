"""A small robust source: the paper's PGD(1), one step of 2 eps from the image itself (A.10).

    python run.py --config configs/sources/tiny_pgd1.py --workdir runs/tiny_pgd1

This run produced `bundled:pgd1`. The ball is that of `bundled:l2`. Like the paper's step of 6 at
eps 3, the step leaves the ball and is projected back, so that every image is changed by all of eps,
except for clamping to [0, 1].
"""

from ml_collections import ConfigDict

from rtl_jax.configs.sources.tiny_natural import get_config as tiny_natural


def get_config() -> ConfigDict:
    """Return the natural source's settings with a perturbation."""
    config = tiny_natural()
    config.pretraining.perturbation = "pgd"
    config.pretraining.norm = "l2"
    config.pretraining.eps = 0.5
    config.pretraining.steps = 1
    config.pretraining.relative_step = 2.0
    return config
