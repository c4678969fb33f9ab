"""One cell of Table 7: a target and a source of the paper, three blocks and a new head.

    python run.py --config configs/paper/cell.py:mnist-l2
    python run.py --config configs/paper/cell.py:svhn-natural --config.target.num_images=400

The name is TARGET-SOURCE; work directories are runs/cell_TARGET-SOURCE unless another is given.
Expected (paper, Table 7, last epoch, percent; with +- the standard deviation over ten seeds):

                         100 images       400     1,600
    svhn-natural         23.5 +- 4.8     37.3      62.1
    svhn-l2              37.9 +- 3.2     62.0      77.8
    svhn-linf4           34.8            59.0      75.2
    svhn-linf8           35.8            61.0      76.8
    mnist-l2             83.8            94.3      97.1
    fashion_mnist-l2     71.8            82.1      87.6
    kmnist-l2            51.8 +- 2.0     71.7      85.0
    cifar10-l2           51.9 +- 1.8     71.7      83.8
    cifar100-l2           8.5 +- 1.0     21.7      45.6

Other cells of these targets and sources can be named as well. All cells at once:
configs/paper/table7.py.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.svhn_l2 import get_config as svhn_l2
from rtl_jax.errors import UserError

TARGETS = {
    "svhn": "tfds:svhn_cropped",
    "mnist": "tfds:mnist",
    "fashion_mnist": "tfds:fashion_mnist",
    "kmnist": "tfds:kmnist",
    "cifar10": "tfds:cifar10",
    "cifar100": "tfds:cifar100",
}
SOURCES = {
    "natural": "checkpoints/resnet50-19c8e357.pth",
    "l2": "checkpoints/imagenet_l2_3_0.pt",
    "linf4": "checkpoints/imagenet_linf_4.pt",
    "linf8": "checkpoints/imagenet_linf_8.pt",
}


def get_config(cell: str = "svhn-l2") -> ConfigDict:
    """Return the settings of configs/svhn_l2.py with the target and source of a cell."""
    target, _, source = cell.partition("-")
    if target not in TARGETS or source not in SOURCES:
        raise UserError(
            f"expected TARGET-SOURCE with one of {', '.join(TARGETS)} and one of "
            f"{', '.join(SOURCES)}, received {cell!r}"
        )
    config = svhn_l2()
    config.target.dataset = TARGETS[target]
    config.source.checkpoint = SOURCES[source]
    return config
