"""Does transfer keep robustness? The networks of configs/study/networks.py under PGD.

    python run.py --config configs/study/robustness.py --workdir runs/study

PGD(10) in L2 on 200 test images of each network's own target, at 0.5, the radius with which the L2
source was trained, and at half of it.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.attack_l2 import get_config as attack_l2


def get_config() -> ConfigDict:
    """Return settings for every network in runs/study_networks."""
    config = attack_l2()
    config.target.num_test_images = 200
    config.attack.runs = "runs/study_networks"
    config.attack.eps = (0.0, 0.25, 0.5)
    config.attack.steps = 10
    config.attack.num_shown = 0
    return config
