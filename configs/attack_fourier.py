"""Robust accuracy under PGD(20) whose perturbations have low frequencies only, in L2.

    python run.py --config configs/attack_fourier.py --workdir runs/attack_fourier \
      --config.source.checkpoint=runs/svhn_l2 --config.target.dataset=tfds:svhn_cropped

Like configs/attack_l2.py, but in a part of the ball (the paper's appendix A.12): perturbations
contain only frequencies up to a quarter of the highest. Another band, for example the upper half:
--config.attack.low_frequency=0.5 --config.attack.high_frequency=1. A budget that decreases with
frequency instead: --config.attack.high_frequency=1 --config.attack.budget=1/f.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.attack_l2 import get_config as attack_l2


def get_config() -> ConfigDict:
    """Return the settings, with the radii of configs/attack_l2.py."""
    config = attack_l2()
    config.attack.method = "fourier"
    config.attack.low_frequency = 0.0
    config.attack.high_frequency = 0.25
    return config
