"""Robust accuracy of a network under AutoAttack in the Linf norm.

    python run.py --config configs/autoattack_linf.py --workdir runs/autoattack \
      --config.source.checkpoint=runs/svhn_l2 --config.target.dataset=tfds:svhn_cropped

Runs apgd-ce, apgd-t, fab-t and square in sequence on correctly classified images, as RobustBench
does, with fixed settings. An image is robust if it withstands all of them. Warnings about the
result are printed and stored in the row. The network's classes must match the dataset's; with fewer
than four, apgd-t is omitted, with a warning. An image that withstands costs 1,900 gradients and
5,900 evaluations: on a CPU, use a small network and --config.target.num_test_images.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Return settings with radius 8/255, for the network from configs/svhn_l2.py."""
    config = defaults()
    config.task = "attack"
    config.source.checkpoint = "runs/svhn_l2"
    config.target.dataset = "tfds:svhn_cropped"
    config.target.num_test_images = 1000
    config.attack.method = "autoattack"
    config.attack.norm = "linf"
    config.attack.eps = (8 / 255,)
    return config
