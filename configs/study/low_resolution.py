"""The study on images without detail, 8 x 8 px (paper, Table 2): see configs/study/transfer.py.

python run.py --config configs/study/low_resolution.py --workdir runs/study
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return 100 images shrunk to 8 x 8 and enlarged, with a head alone and with one block."""
    config = transfer()
    config.target.low_resolution = 8
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.blocks = (0, 1)
    config.sweep.num_images = (100,)
    config.sweep.epochs = (60,)
    return config
