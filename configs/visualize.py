"""What a natural and a robust network see (the paper's Figure 1b), on a laptop.

    python run.py --config configs/visualize.py --workdir runs/visualize
    python run.py --config configs/visualize.py --workdir runs/visualize \
      --config.visualize.show=gradients --config.target.dataset=SPEC

Compares `bundled:natural` and `bundled:l2`. The first command changes six handwritten digits, which
neither network has seen, to raise their most active features, within an L2 ball of radius 4; it
took 81 s on two cores with other load. The second plots the gradients of the loss with respect to
the pixels. It needs images of the network's own classes, or networks that were fine-tuned on the
target: --config.visualize.sources=WORKDIR,WORKDIR.

Expected: smooth strokes from the robust network, noise from the natural one. `roughness`
quantifies it.
"""

from ml_collections import ConfigDict

from rtl_jax.lab.config import defaults


def get_config() -> ConfigDict:
    """Return Engstrom et al.'s search, scaled to 32 px."""
    config = defaults()
    config.task = "visualize"
    config.target.dataset = "digits"
    config.target.image_size = 32
    config.visualize.sources = ("bundled:natural", "bundled:l2")
    config.visualize.eps = 4.0
    config.visualize.steps = 60
    config.visualize.relative_step = 2.5
    return config
