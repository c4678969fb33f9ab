"""Robust accuracy of a network under AutoAttack in the Linf norm.

    python run.py --config configs/autoattack_linf.py --workdir runs/autoattack \
      --config.source.checkpoint=runs/svhn_l2 --config.target.dataset=tfds:svhn_cropped

Runs apgd-ce, apgd-t, fab-t and square one after the other on what the network gets right, as
RobustBench does; their settings are fixed. An image is robust if it withstands all of them, and
what makes that doubtful is printed and kept in the row. The network's classes must be the data
set's; with fewer than four, apgd-t is left out, with a warning. An image that withstands costs
1,700 gradients and 5,900 evaluations: on a CPU choose a small network and
--config.target.num_test_images.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """8/255, on the network that configs/svhn_l2.py left."""
    config = defaults()
    config.task = "attack"
    config.source.checkpoint = "runs/svhn_l2"
    config.target.dataset = "tfds:svhn_cropped"
    config.target.num_test_images = 1000
    config.attack.method = "autoattack"
    config.attack.norm = "linf"
    config.attack.eps = (8 / 255,)
    return config
