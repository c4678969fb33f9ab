"""The paper's cell: an L2 eps=3 ResNet-50, three blocks and a new head fine-tuned on SVHN.

    python run.py --config configs/svhn_l2.py --workdir runs/svhn_l2

Expected (paper, Table 7, 10 seeds, last epoch): 37.9 +- 3.2 % on 100 images, 62.0 +- 2.0 on
400, 77.8 +- 1.2 on 1,600; the natural source reaches 23.5, 37.3, 62.1. For this one and the paper's
other targets and sources, see configs/paper/cell.py.

The source is the authors' `imagenet_l2_3_0.pt`; if it is missing, the message says where to get it.
Any other checkpoint, dataset, size or number of blocks can be chosen, for example your own folder
of photographs (a folder per class) with one trained block:

    python run.py --config configs/svhn_l2.py --workdir runs/photos \\
      --config.target.dataset=folder:photos --config.target.num_images=none \\
      --config.transfer.blocks=1

For a first look on a CPU: --config.target.image_size=64 --config.target.num_test_images=1000.
All settings are listed in rtl_jax/lab/config/; those not set in this file have the paper's values.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Return the settings; `--config.target.num_images=400` on the command line changes one."""
    config = defaults()
    config.source.checkpoint = "checkpoints/imagenet_l2_3_0.pt"
    config.target.dataset = "tfds:svhn_cropped"
    config.target.image_size = 224
    config.target.num_images = 100
    config.transfer.blocks = 3
    return config
