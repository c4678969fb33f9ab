"""Which labels are wrong: training images ranked by their influence on themselves.

    python run.py --config configs/find_wrong_labels.py --workdir runs/wrong_labels

On the handwritten digits, of which 10 % get a wrong label first, so that it can be seen how many
are found: fine-tuned on all 1,197 training images, then ranked. It prints the share of the wrong
labels found against the share of images inspected, beside the gradient's and the loss's rankings.
For a folder of your own photographs, with nothing flipped:

    python run.py --config configs/find_wrong_labels.py --workdir runs/photos_labels \
      --config.influence.flip_labels=0 --config.target.dataset=folder:photos \
      --config.source.checkpoint=SOURCE --config.source.arch= --config.target.image_size=224

or, of a run that is finished, with --config.influence.run=runs/photos and nothing flipped.
WORKDIR/runs/RUN/training_images.csv lists the images, files and all, the most suspicious first,
and suspects.png shows them. About two minutes on two cores.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults, preset


def get_config() -> ConfigDict:
    """A small network trained from scratch on digits with wrong labels among them."""
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
