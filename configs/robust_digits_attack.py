"""PGD on the ten networks of configs/robust_digits.py, in L2.

    python run.py --config configs/robust_digits_attack.py --workdir runs/robust_digits
    python run.py --config configs/robust_digits_attack.py --workdir runs/robust_digits \\
      --config.attack.method=autoattack --config.attack.eps=0.5 --config.target.num_test_images=50

PGD(20) on the same 200 test images for each network, about a minute on one core each. The second
command runs AutoAttack on fewer images, which takes far longer. See docs/quickstart.md for numbers.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.attack_l2 import get_config as attack_l2


def get_config() -> ConfigDict:
    """Return settings for all networks in runs/robust_digits, at three radii and unattacked."""
    config = attack_l2()
    config.target.num_test_images = 200
    config.attack.runs = "runs/robust_digits"
    config.attack.eps = (0.0, 0.25, 0.5, 1.0)
    config.attack.num_shown = 0
    return config
