"""Figures 3 and 10: how fast the sources transfer, on 3,200 images, and on 800 and 12,800.

    python run.py --config configs/paper/figure3.py --workdir runs/paper

A part of configs/paper/table7.py: in the same work directory, neither repeats the other's runs.

Expected: L2 ahead of natural after 11 epochs (21 on 800 images); every row gives its epoch.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.paper.table7 import L2, NATURAL
from rtl_jax.configs.paper.table7 import get_config as table7


def get_config() -> ConfigDict:
    """Return three sizes, at epochs 1, 11, ..., 141, 150; of 800 images, 1, 21, ..., 81, 100."""
    config = table7()
    config.sweep.sources = (NATURAL, L2)
    config.sweep.blocks = (3,)
    config.sweep.num_images = (800, 3200, 12800)
    return config
