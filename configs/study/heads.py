"""What does a converged head alone achieve? See configs/study/transfer.py.

    python run.py --config configs/study/heads.py --workdir runs/study_heads
    python run.py --config configs/study/heads_digits.py --workdir runs/study_heads

Natural and L2, five targets, 100 and 400 images, ten seeds, no trained block. The head is trained
by the study's 60 or 120 steps of SGD, or fitted by ridge or logistic regression. In its own work
directory, since the study's other parts only have heads trained by SGD. For expected numbers, see
docs/study.md.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return settings that include classifiers on the raw pixels."""
    config = transfer()
    config.transfer.baseline = True
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.blocks = (0,)
    config.sweep.num_images = (100, 400)
    config.sweep.epochs = (60, 30)
    config.sweep.head_fits = ("sgd", "ridge", "logistic")
    return config
