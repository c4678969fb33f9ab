"""The natural counterpart of configs/svhn_l2.py: torchvision's ResNet-50 on SVHN.

    python run.py --config configs/svhn_natural.py --workdir runs/svhn_natural

Expected (paper, Table 7, 10 seeds, last epoch): 23.5 +- 4.8 % on 100 images, 37.3 +- 2.3
on 400, 62.1 +- 2.7 on 1,600.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.svhn_l2 import get_config as svhn_l2


def get_config() -> ConfigDict:
    """The settings of configs/svhn_l2.py but for the source."""
    config = svhn_l2()
    config.source.checkpoint = "checkpoints/resnet50-19c8e357.pth"
    return config
