"""What does a converged head alone achieve on the digits? See configs/study/heads.py.

    python run.py --config configs/study/heads_digits.py --workdir runs/study_heads

The only target without a data directory: 1,197 training and 600 test images, all of them used.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.study.heads import get_config as heads


def get_config() -> ConfigDict:
    """Return the settings of heads on the digits."""
    config = heads()
    config.target.num_test_images = None
    config.sweep.targets = ("digits",)
    return config
