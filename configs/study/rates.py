"""Is it the learning rate? Natural and L2 at other rates: see configs/study/transfer.py.

    python run.py --config configs/study/rates.py --workdir runs/study_rates \
        --config.transfer.learning_rate=0.3

100 images, a head alone and one block. Networks whose features differ in scale want different
rates, so a source could look better only because the study's one rate suits it. `make study` runs
0.03, 0.1 (the study's, and the paper's), 0.3 and 1 in a work directory of their own, and its page
compares each source at its own best.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Tested after the first and the last epoch."""
    config = transfer()
    config.transfer.eval_every = 60
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.blocks = (0, 1)
    config.sweep.num_images = (100,)
    config.sweep.epochs = (60,)
    return config
