"""What augmentation costs and gains: see configs/study/modes.py, which has its counterpart.

    python run.py --config configs/study/augmentation.py --workdir runs/study_modes

The paper's augmentation (padded crops, mirroring, brightness, contrast, saturation, rotation by up
to 2 degrees), with the source's statistics. The frozen blocks run forward in every step.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.modes import get_config as modes
from rtl_jax.lab.config import preset


def get_config() -> ConfigDict:
    """Return the settings with one block."""
    config = modes()
    config.augmentation = preset("paper")
    config.sweep.blocks = (1,)
    return config
