"""The paper's whole grid, Table 7 and all its figures on transfer: 14,400 fine-tunings.

    python run.py --config configs/paper/table7.py --workdir runs/paper --config.dry_run
    python run.py --config configs/paper/table7.py --workdir runs/paper

Four sources, six targets, 0, 1, 3 and 9 blocks, ten sizes from 100 images to all, 20 seeds up to
1,600 images and 10 above; --config.sweep.seeds_by=table4 uses those of Table 4 (12,576 runs).
It can be interrupted at any time: the same command continues with the remaining runs. The parts
for single figures have their own configs, and runs are shared through the work directory. The
column of networks trained from scratch is configs/paper/table7_scratch.py.

Expected at 3 blocks, last epoch, in % (natural, L2 eps=3): CIFAR-10 on 100 images 48.5, 51.9; on
1,600 images 79.7, 83.8; SVHN 23.5, 37.9 and 62.1, 77.8; KMNIST 34.3, 51.8 and 74.1, 85.0.

With --config.transfer.frozen_batch_norm=adapt or source, and no augmentation, the frozen blocks
run once instead of in every epoch: this is many times cheaper, but not the paper's setting.
"""

from typing import TYPE_CHECKING

from rtl_jax.lab.config import defaults

if TYPE_CHECKING:
    from ml_collections import ConfigDict

NATURAL = "checkpoints/resnet50-19c8e357.pth"
L2 = "checkpoints/imagenet_l2_3_0.pt"
LINF4 = "checkpoints/imagenet_linf_4.pt"
LINF8 = "checkpoints/imagenet_linf_8.pt"
SOURCES = (NATURAL, L2, LINF4, LINF8)

TARGETS = (
    "tfds:cifar10",
    "tfds:cifar100",
    "tfds:svhn_cropped",
    "tfds:fashion_mnist",
    "tfds:kmnist",
    "tfds:mnist",
)
BLOCKS = (0, 1, 3, 9)
NUM_IMAGES = (100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 0)  # 0: all


def get_config() -> "ConfigDict":
    """Return the grid, with the paper's values for all other settings."""
    config = defaults()
    config.task = "sweep"
    config.source.arch = "resnet50"
    config.sweep.sources = SOURCES
    config.sweep.targets = TARGETS
    config.sweep.blocks = BLOCKS
    config.sweep.num_images = NUM_IMAGES
    return config
