"""Robust accuracy of a network under PGD(20) in the L2 norm, over several radii.

    python run.py --config configs/attack_l2.py --workdir runs/attack \
      --config.source.checkpoint=runs/svhn_l2 --config.target.dataset=tfds:svhn_cropped

As configs/attack_linf.py, in the norm that the paper's best source was trained in. Radii are
Euclidean lengths over all pixels of [0, 1]: at 32 px one of 3 x 32 / 224, about 0.43, changes
a pixel as much as 3 does at 224 px.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.attack_linf import get_config as attack_linf


def get_config() -> ConfigDict:
    """The settings of configs/attack_linf.py but for the norm and the radii."""
    config = attack_linf()
    config.attack.norm = "l2"
    config.attack.eps = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0)
    return config
