"""Adversarial fine-tuning on a laptop: does training on attacked digits keep a source's robustness?

    python run.py --config configs/adversarial_digits.py --workdir runs/adversarial_digits

`bundled:l2` is fine-tuned on 100 handwritten digits with one trained block and two seeds, on
images perturbed by PGD(5) by up to 0.5 in L2 (the paper's equation 1, on the target instead of the
source). After the last epoch, PGD(20) attacks 100 test images at this radius and at half of it.
For comparison: `--config.transfer.perturbation=none`. TRADES instead: `--config.transfer.beta=6`.
Several radii in parallel in one sweep: `--config.sweep.eps=0.25,0.5`. See docs/training.md for
further options.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.sweep_digits import get_config as sweep_digits


def get_config() -> ConfigDict:
    """Return the sweep's settings with a perturbation of the training images."""
    config = sweep_digits()
    config.sweep.sources = ("bundled:l2",)
    config.sweep.blocks = (1,)
    config.sweep.num_images = (100,)
    config.sweep.seeds = 2
    config.target.num_test_images = 200
    config.transfer.perturbation = "pgd"
    config.transfer.norm = "l2"
    config.transfer.eps = 0.5
    config.transfer.steps = 5
    config.transfer.eval_every = 100
    config.transfer.num_attacked = 100
    config.attack.norm = "l2"
    config.attack.eps = (0.25, 0.5)
    return config
