"""The study's part on 1,600 images: see configs/study/transfer100.py.

python run.py --config configs/study/transfer1600.py --workdir runs/study
"""

from ml_collections import ConfigDict

from configs.study.transfer100 import get_config as transfer100


def get_config() -> ConfigDict:
    """Four times the steps."""
    config = transfer100()
    config.transfer.epochs = 15
    config.sweep.num_images = (1600,)
    return config
