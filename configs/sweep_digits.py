"""The paper's question on a laptop: does a robust source transfer better to few images?

    python run.py --config configs/sweep_digits.py --workdir runs/quickstart/sweep

Two bundled sources that differ only in their training, `bundled:natural` and `bundled:l2`,
are fine-tuned on 50 and 100 handwritten digits, with a new head alone and with two trained blocks,
with five seeds each: 40 fine-tunings in about a minute on two cores. Prints both accuracies and
their difference, paired by seed, with 95 % intervals, and plots them in sweep.png. After an
interruption, the same command resumes without repeating finished runs. `make quickstart` runs this.

Your own photographs, in a folder for each class:

    python run.py --config configs/sweep_digits.py --workdir runs/photos \\
      --config.sweep.targets=folder:photos

(Pictures larger than 32 px deserve a larger source: see docs/converting.md.)
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults, preset


def get_config() -> ConfigDict:
    """Return settings with no or two trained blocks; frozen features are computed once."""
    config = defaults()
    config.task = "sweep"
    config.target.dataset = "digits"
    config.target.image_size = 32
    config.augmentation = preset("none")
    config.transfer.frozen_batch_norm = "source"
    config.transfer.head = "uniform"
    config.transfer.learning_rate = 0.03
    config.transfer.epochs = 25
    config.transfer.batch_size = 25  # divides every size, so that one program suffices
    config.sweep.sources = ("bundled:natural", "bundled:l2")
    config.sweep.blocks = (0, 2)
    config.sweep.num_images = (50, 100)
    config.sweep.seeds = 5
    return config
