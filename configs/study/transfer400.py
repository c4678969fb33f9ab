"""The study's part on 400 images: see configs/study/transfer100.py.

python run.py --config configs/study/transfer400.py --workdir runs/study
"""

from ml_collections import ConfigDict

from configs.study.transfer100 import get_config as transfer100


def get_config() -> ConfigDict:
    """Twice the steps."""
    config = transfer100()
    config.transfer.epochs = 30
    config.sweep.num_images = (400,)
    return config
