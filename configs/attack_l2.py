"""Robust accuracy of a network under PGD(20) in the L2 norm, over several radii.

    python run.py --config configs/attack_l2.py --workdir runs/attack \
      --config.source.checkpoint=runs/svhn_l2 --config.target.dataset=tfds:svhn_cropped

Like configs/attack_linf.py, in the norm with which the paper's best source was trained. Radii are
Euclidean norms over all pixels in [0, 1]: a radius of 3 x 32 / 224, about 0.43, at 32 px changes
each pixel as much as 3 does at 224 px.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.attack_linf import get_config as attack_linf


def get_config() -> ConfigDict:
    """Return the settings of configs/attack_linf.py with another norm and other radii."""
    config = attack_linf()
    config.attack.norm = "l2"
    config.attack.eps = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0)
    return config
