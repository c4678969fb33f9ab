"""Figure 4 (and the L2 source's part of 11): how many blocks to fine-tune.

    python run.py --config configs/paper/figure4.py --workdir runs/paper

A part of configs/paper/table7.py: in the same work directory, neither repeats the other's runs.

Figure 11 has both Linf sources, too:

    --config.sweep.sources=checkpoints/imagenet_linf_4.pt,checkpoints/imagenet_linf_8.pt

Expected: one or three blocks best, 0 and 9 worse. The figure takes each run's best epoch.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.paper.table7 import L2
from rtl_jax.configs.paper.table7 import get_config as table7


def get_config() -> ConfigDict:
    """Return settings with one source and all numbers of blocks."""
    config = table7()
    config.sweep.sources = (L2,)
    return config
