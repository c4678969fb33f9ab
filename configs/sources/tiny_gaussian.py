"""A small source trained with noise of the attack's size instead of an attack (A.10).

    python run.py --config configs/sources/tiny_gaussian.py --workdir runs/tiny_gaussian

This run produced `bundled:gaussian`. Every pixel gets noise from N(0, 1), projected onto the L2
ball of 0.5: a random point of its sphere, clamped to [0, 1].
"""

from ml_collections import ConfigDict

from rtl_jax.configs.sources.tiny_natural import get_config as tiny_natural


def get_config() -> ConfigDict:
    """Return the natural source's settings with a perturbation."""
    config = tiny_natural()
    config.pretraining.perturbation = "gaussian"
    config.pretraining.norm = "l2"
    config.pretraining.eps = 0.5
    return config
