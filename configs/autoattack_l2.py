"""Robust accuracy of a network under AutoAttack in the L2 norm.

    python run.py --config configs/autoattack_l2.py --workdir runs/autoattack \
      --config.source.checkpoint=runs/svhn_l2 --config.target.dataset=tfds:svhn_cropped

Like configs/autoattack_linf.py, in the norm with which the paper's best source was trained.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.autoattack_linf import get_config as autoattack_linf


def get_config() -> ConfigDict:
    """Return the settings of configs/autoattack_linf.py with another norm and radius."""
    config = autoattack_linf()
    config.attack.norm = "l2"
    config.attack.eps = (0.5,)
    return config
