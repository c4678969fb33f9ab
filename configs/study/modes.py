"""What BatchNorm in frozen blocks and augmentation cost and gain: see configs/study/transfer.py.

    python run.py --config configs/study/modes.py --workdir runs/study_modes \
        --config.transfer.frozen_batch_norm=adapt

The natural and the L2 source, 100 images, one and three blocks, five seeds, with each value of
`transfer.frozen_batch_norm` (source, adapt, batch), without augmentation. `make study` runs all
three in their own work directory, and configs/study/augmentation.py. `seconds` in the rows is the
duration of a run.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return settings with evaluations after the first and the last epoch."""
    config = transfer()
    config.transfer.eval_every = 60
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.blocks = (1, 3)
    config.sweep.num_images = (100,)
    config.sweep.epochs = (60,)
    config.sweep.seeds = 5
    return config
