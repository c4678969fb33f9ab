"""The main job in small: fine-tune the network of configs/quickstart_source.py on other digits.

    make quickstart

runs that config first and then this one: 100 images of the digits 5 to 9, which the source
has never seen, three blocks and a new head. The table ends with a linear classifier fitted
to the raw pixels of the same 100 images, which transfer has to beat.
"""

from ml_collections import ConfigDict

from rtl_jax.config import defaults, preset


def get_config() -> ConfigDict:
    """Three blocks trained behind a frozen stem whose statistics stay the source's."""
    config = defaults()
    config.source.checkpoint = "runs/quickstart/source"  # the work directory of the first run
    config.target.dataset = "digits"
    config.target.classes = (5, 6, 7, 8, 9)
    config.target.image_size = 16
    config.target.num_images = 100
    config.augmentation = preset("none")
    config.augmentation.crop_padding = 1
    config.augmentation.rotation = 10.0
    config.transfer.blocks = 3
    config.transfer.frozen_batch_norm = "source"
    config.transfer.head = "uniform"
    config.transfer.epochs = 60
    config.transfer.batch_size = 32
    config.transfer.baseline = True
    return config
