"""Is it the learning rate? Natural and L2 at other rates: see configs/study/transfer.py.

    python run.py --config configs/study/rates.py --workdir runs/study_rates \
        --config.transfer.learning_rate=0.3

100 images, a head alone and one block. Networks whose features differ in scale need different
learning rates, so a source might look better only because the study's single rate suits it. `make
study` runs 0.03, 0.1 (the rate of the study and of the paper), 0.3 and 1 in their own work
directory, and its page compares the sources at their own best rates.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return settings with evaluations after the first and the last epoch."""
    config = transfer()
    config.transfer.eval_every = 60
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.blocks = (0, 1)
    config.sweep.num_images = (100,)
    config.sweep.epochs = (60,)
    return config
