"""The Linf eps=4/255 source of the paper on SVHN, three blocks.

    python run.py --config configs/svhn_linf4.py --workdir runs/svhn_linf4

Expected (paper, Table 7, mean over seeds, last epoch): 34.8 % on 100 images, 59.0 on 400, 75.2
on 1,600.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.svhn_l2 import get_config as svhn_l2


def get_config() -> ConfigDict:
    """The settings of configs/svhn_l2.py but for the source."""
    config = svhn_l2()
    config.source.checkpoint = "checkpoints/imagenet_linf_4.pt"
    return config
