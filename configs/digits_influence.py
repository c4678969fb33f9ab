"""Which training images caused a prediction: handwritten digits, on a laptop.

    python run.py --config configs/digits_influence.py --workdir runs/quickstart/influence

`bundled:l2` and `bundled:natural` are fine-tuned with two blocks and a new head on the same
100 digits, and every training image is scored for every test image. They can be replaced by any two
sources (`source.checkpoint` and `influence.compare`). Draws the paper's Figures 6, 7a and 7b,
stores the scores in the work directory, and prints how often the most influential image has the
test image's label. `make quickstart` runs this.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.sweep_digits import get_config as sweep_digits


def get_config() -> ConfigDict:
    """Return the settings of the sweep's fine-tuning on 100 images, from two sources."""
    config = sweep_digits()
    config.task = "influence"
    config.source.checkpoint = "bundled:l2"
    config.influence.compare = "bundled:natural"
    config.target.num_images = 100
    config.transfer.blocks = 2
    return config
