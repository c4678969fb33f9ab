"""The study with nearly all blocks trained, seven of eight: see configs/study/transfer.py.

    python run.py --config configs/study/deep.py --workdir runs/study

The counterpart of the paper's nine of sixteen blocks (Figure 4), with three seeds, since a run
takes as long as training the whole network.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return settings with the natural and the L2 source."""
    config = transfer()
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.blocks = (7,)
    config.sweep.num_images = (100, 400)
    config.sweep.epochs = (60, 30)
    config.sweep.seeds = 3
    return config
