"""Accuracy of networks under fourteen common corruptions at five severities each.

    python run.py --config configs/corruptions.py --workdir runs/corruptions \
      --config.attack.runs=runs/transfer

evaluates every network in the work directory runs/transfer on its own target; without
`attack.runs`, the network in `source.checkpoint`. Noise, blurs, weather and digital corruptions
are those of CIFAR-10-C below 128 px and of ImageNet-C from 128 px (Hendrycks and Dietterich, 2019).
Writes a row for each; `rtl-jax --config report` adds the mean corruption error relative to the
natural source: see docs/corruptions.md.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.attack_linf import get_config as attack_linf


def get_config() -> ConfigDict:
    """Return settings with all corruptions and severities, and 1000 test images."""
    config = attack_linf()
    config.attack.method = "corruptions"
    config.attack.batch_size = 128
    return config
