"""The right-hand column of the paper's Table 7: a ResNet-50 trained entirely from random weights.

    python run.py --config configs/paper/table7_scratch.py --workdir runs/paper

Expected on MNIST (paper, last epoch): 12.8 % on 100 images, 22.6 on 400, 85.6 on 1,600.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.paper.table7 import get_config as table7


def get_config() -> ConfigDict:
    """Return the grid of configs/paper/table7.py, initialised as in torchvision."""
    config = table7()
    config.source.checkpoint = "random"
    config.sweep.sources = ()
    config.sweep.blocks = ()
    config.transfer.blocks = None  # all blocks
    config.transfer.head = "uniform"
    return config
