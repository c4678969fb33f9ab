"""An L2 eps=3 ResNet-50, three blocks and a new head fine-tuned on CIFAR-10.

    python run.py --config configs/cifar10_l2.py --workdir runs/cifar10_l2

Expected (paper, Table 7, 10 seeds, last epoch): 51.9 +- 1.8 % on 100 images, 71.7 +- 1.2
on 400, 83.8 +- 0.3 on 1,600.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.svhn_l2 import get_config as svhn_l2


def get_config() -> ConfigDict:
    """The settings of configs/svhn_l2.py but for the target."""
    config = svhn_l2()
    config.target.dataset = "tfds:cifar10"
    return config
