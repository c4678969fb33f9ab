"""Which labels are wrong: training images ranked by their influence on themselves.

    python run.py --config configs/find_wrong_labels.py --workdir runs/wrong_labels

To measure how many wrong labels are found, 10 % of the handwritten digits first get a wrong one. A
network is trained from scratch on all 1,197 training images, which are then ranked. Prints the
fraction of wrong labels found by the fraction of images inspected, and the same for rankings by
gradient and by loss. For a folder of your own photographs, without label noise:

    python run.py --config configs/find_wrong_labels.py --workdir runs/photos_labels \
      --config.influence.flip_labels=0 --config.target.dataset=folder:photos \
      --config.source.checkpoint=SOURCE --config.source.arch= --config.target.image_size=224

or, for a finished run, with --config.influence.run=runs/photos and without label noise.
WORKDIR/runs/RUN/training_images.csv lists the images with their files, most suspicious first, and
suspects.png shows them. About two minutes on two cores.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults, preset


def get_config() -> ConfigDict:
    """Return settings to train a small network from scratch on digits with label noise."""
    config = defaults()
    config.task = "influence"
    config.influence.question = "wrong_labels"
    config.influence.flip_labels = 0.1
    config.source.checkpoint = "random"
    config.source.arch = "resnet18"
    config.source.stem = "small"
    config.source.stage_sizes = (1, 1, 1)
    config.source.stage_widths = (16, 32, 64)
    config.target.dataset = "digits"
    config.target.image_size = 16
    config.augmentation = preset("none")
    config.augmentation.crop_padding = 1
    config.augmentation.rotation = 10.0
    config.transfer.blocks = None
    config.transfer.head = "uniform"
    config.transfer.epochs = 20
    config.transfer.batch_size = 64
    return config
