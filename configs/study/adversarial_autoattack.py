"""AutoAttack, or PGD(20), on networks of configs/study/adversarial.py: L2 0.5, 200 test images.

    python run.py --config configs/study/adversarial_autoattack.py --workdir runs/autoattack
    python run.py --config configs/study/adversarial_autoattack.py --workdir runs/autoattack \\
      --config.attack.method=pgd

Each image that withstands AutoAttack takes some 9 s of one core, hence the few images, and networks
of the first seed only (--config.attack.seeds="()" takes all). After an interruption, the same
command resumes.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.autoattack_l2 import get_config as autoattack_l2
from rtl_jax.lab.config import FIRST_SEED


def get_config() -> ConfigDict:
    """Return settings for the networks of the first seed."""
    config = autoattack_l2()
    config.target.num_test_images = 200
    config.attack.runs = "runs/study_adversarial"
    config.attack.seeds = (FIRST_SEED,)
    config.attack.eps = (0.5,)
    config.attack.num_shown = 0
    config.attack.batch_size = 16  # on a CPU a third faster than 64
    return config
