"""Table 1a: ImageNet networks on Stylized ImageNet (SIN), as they are and fine-tuned to it.

    python run.py --config configs/paper/table1a.py --workdir runs/table1a
    python run.py --config configs/paper/table1a.py --workdir runs/table1a --config.task=attack \
      --config.source.checkpoint=CHECKPOINT

The first command fine-tunes the natural and the L2 source: the head alone, as the paper's text has
it, and three blocks, as the table's caption has it. The second tests a source that has not seen
SIN; run it for both checkpoints. SIN is made from ImageNet by its authors' script
(github.com/rgeirhos/Stylized-ImageNet); put it into stylized_imagenet/train and
stylized_imagenet/val, a folder for each class, whose names in alphabetical order number the
classes as they number ImageNet's. The paper does not say on how many images it fine-tunes, nor for
how long: here all, and as for its other targets.

A network that was fine-tuned on other images of the same classes is tested on SIN by
--config.target.test_dataset=folder:stylized_imagenet.

Expected, natural and robust: not fine-tuned 11.4 %, 20.1 %; fine-tuned 36.1 %, 64.2 %.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.paper.table7 import L2, NATURAL
from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Two sources, two depths; as an attack, accuracy without one."""
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
