"""ResNet-50 from scratch on MNIST: the right-hand column of the paper's Table 7.

    python run.py --config configs/mnist_scratch.py --workdir runs/mnist_scratch

Expected (paper, Table 7, mean over seeds, last epoch): 12.8 % on 100 images, 22.6 on 400, 85.6
on 1,600.

Random weights as torchvision draws them, head included, and everything trains.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.svhn_l2 import get_config as svhn_l2


def get_config() -> ConfigDict:
    """The settings of configs/svhn_l2.py but for the source, the target and what trains."""
    config = svhn_l2()
    config.source.checkpoint = "random"
    config.source.arch = "resnet50"
    config.target.dataset = "tfds:mnist"
    config.transfer.blocks = None  # everything
    config.transfer.head = "uniform"
    return config
