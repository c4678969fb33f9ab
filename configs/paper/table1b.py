"""PGD(3) at eps 3/32 and 3/16, the attack of the paper's Table 1b, assumed to be in the L2 norm.

    python run.py --config configs/paper/table1b.py --workdir runs/table1b \
      --config.source.checkpoint=CHECKPOINT --config.target.dataset=folder:imagenet

CHECKPOINT is an ImageNet network. The folder contains ImageNet's validation images under train/ and
test/, with a folder for each of the thousand classes, sorted by WordNet identifier as in
torchvision.

Expected (paper, natural training on ImageNet): 52.1 % at 3/32, 34.7 % at 3/16. The paper does not
name the norm of this table: these figures fit L2, in which its sources were trained.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.attack_linf import get_config as attack_linf


def get_config() -> ConfigDict:
    """Return settings with three steps, and with clean accuracy."""
    config = attack_linf()
    config.source.checkpoint = "checkpoints/resnet50-19c8e357.pth"
    config.target.dataset = "folder:imagenet"
    config.target.num_test_images = 5000
    config.attack.norm = "l2"
    config.attack.eps = (0.0, 3 / 32, 3 / 16)
    config.attack.steps = 3
    return config
