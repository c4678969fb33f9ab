"""The study on images without high frequencies (paper, Table 2): see configs/study/transfer.py.

python run.py --config configs/study/low_pass.py --workdir runs/study
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.low_resolution import get_config as low_resolution


def get_config() -> ConfigDict:
    """Return settings that zero nine tenths of the frequencies; the paper's 14 % had no effect."""
    config = low_resolution()
    config.target.low_resolution = None
    config.target.low_pass_share = 0.9
    return config
