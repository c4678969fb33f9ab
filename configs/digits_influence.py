"""Which training images made a prediction: handwritten digits, on a laptop.

    python run.py --config configs/digits_influence.py --workdir runs/quickstart/influence

`bundled:l2` beside `bundled:natural`: both are fine-tuned on the same 100 digits, two blocks and a
new head, and every training image is scored on every test image. Any two sources can take their
places (`source.checkpoint` and `influence.compare`). It leaves the paper's Figures 6, 7a and 7b and
the scores under the work directory, and prints how often the most influential image has the test
image's label. `make quickstart` runs this.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.sweep_digits import get_config as sweep_digits


def get_config() -> ConfigDict:
    """The sweep's fine-tuning on 100 images, from two sources."""
    config = sweep_digits()
    config.task = "influence"
    config.source.checkpoint = "bundled:l2"
    config.influence.compare = "bundled:natural"
    config.target.num_images = 100
    config.transfer.blocks = 2
    return config
