"""The study without a source: the bundled architecture from random weights.

    python run.py --config configs/study/scratch.py --workdir runs/study

Trains every block for as many epochs as in configs/study/transfer.py, to show the value of sources.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.sources.tiny_natural import get_config as tiny_natural
from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return settings with random weights instead of a source, and three seeds."""
    config = transfer()
    config.source = tiny_natural().source
    config.transfer.blocks = None
    config.sweep.sources = ()
    config.sweep.blocks = ()
    config.sweep.seeds = 3
    return config
