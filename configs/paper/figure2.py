"""Figure 2: the robust and the natural source on six targets, by number of images.

    python run.py --config configs/paper/figure2.py --workdir runs/paper

A part of configs/paper/table7.py: in the same work directory, neither repeats the other's runs.

Expected: L2 above natural for every target, most with few images (SVHN on 400: 62.0 and 37.3 %).
"""

from ml_collections import ConfigDict

from rtl_jax.configs.paper.table7 import L2, NATURAL
from rtl_jax.configs.paper.table7 import get_config as table7


def get_config() -> ConfigDict:
    """Return settings with two sources and three blocks."""
    config = table7()
    config.sweep.sources = (NATURAL, L2)
    config.sweep.blocks = (3,)
    return config
