"""The paper's question, at the size of a laptop: which source transfers to few images?

    python run.py --config configs/study/transfer.py --workdir runs/study --config.dry_run
    python run.py --config configs/study/transfer.py --workdir runs/study

The base of the study: six bundled sources that differ only in the perturbation of their training
images; four targets at 32 px; a new head alone, or with one or three of the eight blocks; 100, 400
and 1,600 images; ten seeds; 2,000 test images. The learning rate is the paper's; the number of
epochs decreases with the number of images. `make study` runs this and the study's other parts,
which start from this file, and makes the report. Datasets are read from RTL_JAX_DATA_DIR. A setting
selects a part of the grid, such as --config.sweep.targets=tfds:mnist.

The frozen blocks keep the source's statistics, and there is no augmentation, so that their features
are computed once. For expected numbers, see docs/study.md.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults, preset

SOURCES = (
    "bundled:natural",
    "bundled:l2",
    "bundled:linf4",
    "bundled:linf8",
    "bundled:pgd1",
    "bundled:gaussian",
)
TARGETS = ("tfds:mnist", "tfds:fashion_mnist", "tfds:kmnist_partial", "tfds:cifar10_jpeg")


def get_config() -> ConfigDict:
    """Return settings for 60, 120 and 240 steps of 100 images."""
    config = defaults()
    config.task = "sweep"
    config.target.image_size = 32
    config.target.num_test_images = 2000
    config.augmentation = preset("none")
    config.transfer.frozen_batch_norm = "source"
    config.transfer.head = "uniform"
    config.transfer.batch_size = 100
    config.sweep.sources = SOURCES
    config.sweep.targets = TARGETS
    config.sweep.blocks = (0, 1, 3)
    config.sweep.num_images = (100, 400, 1600)
    config.sweep.epochs = (60, 30, 15)
    config.sweep.seeds = 10
    config.sweep.skip_missing = True
    return config
