"""The study with nearly all blocks trained, seven of eight: see configs/study/transfer.py.

    python run.py --config configs/study/deep.py --workdir runs/study

The counterpart of the paper's nine of sixteen (Figure 5), at three seeds: a run takes as long as a
training of the whole network.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """The natural and the L2 source."""
    config = transfer()
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.blocks = (7,)
    config.sweep.seeds = 3
    return config
