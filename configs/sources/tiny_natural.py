"""A small natural source: 100 classes of Tiny ImageNet at 32 px. The base of the other five.

    python run.py --config configs/sources/tiny_natural.py --workdir runs/tiny_natural

This run produced `bundled:natural`, whose card states its cost and accuracy. The six sources differ
only in the perturbation of their training images (paper, sections 3 and 7): tiny_l2, tiny_linf4,
tiny_linf8, tiny_pgd1 and tiny_gaussian start from this file.

A narrow ResNet-26 of bottleneck blocks on small images, so that training takes about two hours on
two cores: 16 px after the stem, and 128, 256, 512 and 768 channels. The first 100 classes are half
of the dataset. On an accelerator, all 200 classes and more epochs take minutes:

    --config.target.classes=none --config.pretraining.epochs=60
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults, preset


def get_config() -> ConfigDict:
    """Return 24 epochs with a one-cycle schedule on 50,000 images, cropped and mirrored."""
    config = defaults()
    config.task = "pretrain"
    config.source.checkpoint = "random"
    config.source.arch = "resnet26"
    config.source.stem = "small_stride2"
    config.source.stage_widths = (32, 64, 128, 192)
    config.target.dataset = "tfds:tiny_imagenet32"
    config.target.classes = tuple(range(100))
    config.target.image_size = 32
    config.augmentation = preset("none")
    config.augmentation.crop_padding = 4
    config.augmentation.flip = True
    config.pretraining.perturbation = "none"
    config.pretraining.epochs = 24
    config.pretraining.batch_size = 128
    config.pretraining.schedule = "one_cycle"
    config.pretraining.learning_rate = 0.2
    config.pretraining.weight_decay = 5e-4
    config.pretraining.num_attacked = 256
    config.pretraining.eval_every = 2
    # Every source is evaluated during training by PGD(20) at the radii at which they differ.
    config.attack.norm = "l2"
    config.attack.eps = (0.25, 0.5)
    return config
