"""The study on the handwritten digits that come with scikit-learn: see configs/study/transfer.py.

    python run.py --config configs/study/digits.py --workdir runs/study

The only target without a data directory: 1,197 training and 600 test images, all of them used.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.transfer import get_config as transfer


def get_config() -> ConfigDict:
    """Return settings with up to 800 images: 60 steps on 100, 120 on more."""
    config = transfer()
    config.target.num_test_images = None
    config.sweep.targets = ("digits",)
    config.sweep.num_images = (100, 400, 800)
    return config
