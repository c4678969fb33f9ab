"""The study's fine-tuned networks, saved to be attacked by configs/study/robustness.py.

    python run.py --config configs/study/networks.py --workdir runs/study_networks

400 images; a head alone, one and three blocks. The runs are those of configs/study/transfer.py, for
three of the ten seeds.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return settings with the natural and the L2 source."""
    config = transfer()
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.num_images = (400,)
    config.sweep.epochs = (30,)
    config.sweep.seeds = 3
    config.sweep.keep_networks = True
    return config
