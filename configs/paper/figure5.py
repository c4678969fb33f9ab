"""Figure 5: the constraint and its radius, on CIFAR-10 and SVHN.

    python run.py --config configs/paper/figure5.py --workdir runs/paper

A part of configs/paper/table7.py: in the same work directory, neither repeats the other's runs.

Expected: L2 eps=3 above both Linf sources. The figure takes each run's best epoch.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.paper.table7 import L2, LINF4, LINF8
from rtl_jax.configs.paper.table7 import get_config as table7


def get_config() -> ConfigDict:
    """Return settings with three robust sources, two targets and three blocks."""
    config = table7()
    config.sweep.sources = (L2, LINF4, LINF8)
    config.sweep.targets = ("tfds:cifar10", "tfds:svhn_cropped")
    config.sweep.blocks = (3,)
    return config
