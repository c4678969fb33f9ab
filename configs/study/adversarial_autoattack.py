"""AutoAttack on the networks of configs/study/adversarial.py, at L2 0.5 on 50 test images.

    python run.py --config configs/study/adversarial_autoattack.py --workdir runs/study_adversarial

A network from the robust source takes 4 to 15 minutes of one core, depending on how many images
withstand it. After an interruption, the same command resumes. See docs/study.md for six of them.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.autoattack_l2 import get_config as autoattack_l2


def get_config() -> ConfigDict:
    """Return settings for every network in runs/study_adversarial."""
    config = autoattack_l2()
    config.target.num_test_images = 50
    config.attack.runs = "runs/study_adversarial"
    config.attack.eps = (0.5,)
    config.attack.num_shown = 0
    return config
