"""Table 1a: ImageNet networks on Stylized ImageNet (SIN), before and after fine-tuning on it.

    python run.py --config configs/paper/table1a.py --workdir runs/table1a
    python run.py --config configs/paper/table1a.py --workdir runs/table1a --config.task=attack \
      --config.source.checkpoint=CHECKPOINT

The first command fine-tunes the natural and the L2 source: only the head, as in the paper's text,
and three blocks, as in the table's caption. The second tests a source without fine-tuning on SIN;
run it for both checkpoints. Make SIN from ImageNet with its authors' script
(github.com/rgeirhos/Stylized-ImageNet), and put it into stylized_imagenet/train and
stylized_imagenet/val, with a folder for each class, so that the alphabetical order of the names
numbers the classes as in ImageNet. The paper does not say on how many images it fine-tunes, nor for
how long: here on all images, and for as long as on its other targets.

To test a network on SIN that was fine-tuned on other images of the same classes:
--config.target.test_dataset=folder:stylized_imagenet.

Expected, natural and robust: not fine-tuned 11.4 %, 20.1 %; fine-tuned 36.1 %, 64.2 %.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.paper.table7 import L2, NATURAL
from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Return settings with two sources and two depths; as an attack, with clean accuracy."""
    config = defaults()
    config.task = "sweep"
    config.source.arch = "resnet50"
    config.source.checkpoint = L2
    config.target.dataset = "folder:stylized_imagenet"
    config.sweep.sources = (NATURAL, L2)
    config.sweep.blocks = (0, 3)
    config.sweep.seeds = 1
    config.attack.eps = (0.0,)
    return config
