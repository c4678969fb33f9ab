"""ResNet-50 from scratch on MNIST: the right-hand column of the paper's Table 7.

    python run.py --config configs/mnist_scratch.py --workdir runs/mnist_scratch

Expected (paper, Table 7, mean over seeds, last epoch): 12.8 % on 100 images, 22.6 on 400, 85.6
on 1,600.

All weights, including the head, are initialised as in torchvision and trained.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.svhn_l2 import get_config as svhn_l2


def get_config() -> ConfigDict:
    """Return the settings of configs/svhn_l2.py, but from scratch on MNIST, training everything."""
    config = svhn_l2()
    config.source.checkpoint = "random"
    config.source.arch = "resnet50"
    config.target.dataset = "tfds:mnist"
    config.transfer.blocks = None  # all blocks
    config.transfer.head = "uniform"
    return config
