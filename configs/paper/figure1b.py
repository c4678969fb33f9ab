"""Figure 1b: features that a natural and a robust network see, with a new head for CIFAR-10.

    python run.py --config configs/paper/figure1b.py --workdir runs/figure1b/natural \
      --config.task=finetune --config.target.dataset=tfds:cifar10 \
      --config.source.checkpoint=checkpoints/resnet50-19c8e357.pth
    python run.py --config configs/paper/figure1b.py --workdir runs/figure1b/l2 \
      --config.task=finetune --config.target.dataset=tfds:cifar10 \
      --config.source.checkpoint=checkpoints/imagenet_l2_3_0.pt
    python run.py --config configs/paper/figure1b.py --workdir runs/figure1b \
      --config.target.dataset=folder:photos

The first two commands fine-tune only the head (A.1). The third changes arbitrary photographs to
raise a feature (in two folders, at least thirty in total: six of the fifth that is held out for
testing are shown). The search is that of Engstrom et al. (2019): 200 steps of length 1 in an L2
ball of radius 1,000. The paper does not say which features it shows; here they are those with the
largest weights for CIFAR-10's ships.

Expected: shapes and strokes from the robust network, noise from the natural one.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Return settings with no trained block; the default search is Engstrom et al.'s."""
    config = defaults()
    config.task = "visualize"
    config.transfer.blocks = 0
    config.visualize.sources = ("runs/figure1b/natural", "runs/figure1b/l2")
    config.visualize.label = 8
    return config
