"""An L2 eps=3 ResNet-50, three blocks and a new head fine-tuned on CIFAR-100.

    python run.py --config configs/cifar100_l2.py --workdir runs/cifar100_l2

Expected (paper, Table 7, 10 seeds, last epoch): 8.5 +- 1.0 % on 100 images, 21.7 +- 1.0 on
400, 45.6 +- 0.7 on 1,600.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.svhn_l2 import get_config as svhn_l2


def get_config() -> ConfigDict:
    """The settings of configs/svhn_l2.py but for the target."""
    config = svhn_l2()
    config.target.dataset = "tfds:cifar100"
    return config
