"""Are a robust network's most influential images of the right class? (paper, section 6)

    python run.py --config configs/study/influence.py --workdir runs/study \
        --config.target.dataset=tfds:kmnist_partial

As in the paper, the L2 and the natural source are fine-tuned with three blocks and a new head on
the same 3,200 images. Counts how many of 2,000 test images have the label of their most influential
training image. `make study` runs this for each target.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return ten epochs of 32 steps, and 6.4 million scores for each source."""
    config = transfer()
    config.task = "influence"
    config.source.checkpoint = "bundled:l2"
    config.influence.compare = "bundled:natural"
    config.target.dataset = "tfds:cifar10_jpeg"
    config.target.num_images = 3200
    config.transfer.blocks = 3
    config.transfer.epochs = 10
    return config
