"""Robust accuracy of a network under PGD(20) in the Linf norm, over several radii.

    python run.py --config configs/attack_linf.py --workdir runs/attack \
      --config.source.checkpoint=runs/svhn_l2 --config.target.dataset=tfds:svhn_cropped

The network may be a converted checkpoint, a torch file, or the work directory of a fine-tuning;
its classes must match the dataset's. Writes a row for every radius, a curve and the images.
An image counts as robust if the best of 21 iterates, evaluated once more, is still classified
correctly. All radii are attacked in one compiled program.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Return settings with radii of 0 to 8/255, for the network from configs/svhn_l2.py."""
    config = defaults()
    config.task = "attack"
    config.source.checkpoint = "runs/svhn_l2"
    config.target.dataset = "tfds:svhn_cropped"
    config.target.num_test_images = 1000
    config.attack.norm = "linf"
    config.attack.eps = (0.0, 0.5 / 255, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
    config.attack.steps = 20
    return config
