"""A tiny source network, trained from scratch on the handwritten digits 0 to 4.

    python run.py --config configs/quickstart_source.py --workdir runs/quickstart/source

It takes the place of a robust ImageNet network in the quickstart, where nothing is to be
downloaded: it is small, naturally trained, and says nothing about the paper. About 97 % of
the test images of its five digits, in half a minute on two cores.
"""

from ml_collections import ConfigDict

from rtl_jax.config import defaults, preset


def get_config() -> ConfigDict:
    """A ResNet of three basic blocks, all of it trained."""
    config = defaults()
    config.source.checkpoint = "random"
    config.source.arch = "resnet18"
    config.source.stem = "small"
    config.source.stage_sizes = (1, 1, 1)
    config.source.stage_widths = (16, 32, 64)
    config.target.dataset = "digits"
    config.target.classes = (0, 1, 2, 3, 4)
    config.target.image_size = 16
    config.augmentation = preset("none")
    config.augmentation.crop_padding = 1
    config.augmentation.rotation = 10.0
    config.transfer.blocks = None  # everything
    config.transfer.head = "uniform"
    config.transfer.epochs = 20
    config.transfer.batch_size = 64
    return config
