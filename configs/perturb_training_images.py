"""How the pixels of a training image affect the loss of a test image, through retraining the head.

    python run.py --config configs/perturb_training_images.py --workdir runs/perturb

The task of configs/digits_influence.py with fitted heads on frozen sources. For six test images of
different classes, the most influential training image is changed along the influence of its pixels
(Koh and Liang, 2017, section 2.2; the paper's appendix A.12), within an L2 ball of radius 0.05.
perturbed.png shows both images and the change, perturbed.csv contains the predicted changes of the
losses.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.digits_influence import get_config as digits_influence


def get_config() -> ConfigDict:
    """Return settings with logistic heads, whose Hessian is slightly damped."""
    config = digits_influence()
    config.transfer.blocks = 0
    config.transfer.head_fit = "logistic"
    config.influence.perturb = 6
    return config
