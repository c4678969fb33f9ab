"""Does a robust source need fewer epochs? (paper, Figure 3): see configs/study/transfer.py.

    python run.py --config configs/study/epochs.py --workdir runs/study_epochs

The natural and the L2 source on 100 images, evaluated after every fourth epoch instead of every
twentieth. The runs are otherwise the same, so their last epochs are the study's own.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return settings with rows at epochs 1, 5, 9, ... 57, 60."""
    config = transfer()
    config.transfer.eval_every = 4
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.num_images = (100,)
    config.sweep.epochs = (60,)
    return config
