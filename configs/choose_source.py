"""A ranking of sources and numbers of blocks for your images, in seconds and without fine-tuning.

    python run.py --config configs/choose_source.py --workdir runs/choose \
      --config.target.dataset=folder:photos

Fits closed-form heads on the frozen features of the six bundled sources, with exact leave-one-out
predictions; see docs/choosing.md for their accuracy. Sources that are far behind need not be
fine-tuned. Other sources: --config.sweep.sources=bundled:natural,checkpoints/mine.pt (with
--config.target.image_size=224).
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import SOURCES
from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Return settings for at most 400 images of the digits, or of another given target."""
    config = defaults()
    config.task = "choose"
    config.target.dataset = "digits"
    config.target.image_size = 32
    config.target.num_images = 400
    config.sweep.sources = SOURCES
    config.sweep.blocks = (0, 1, 3)
    return config
