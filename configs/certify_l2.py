"""Certified accuracy of a network under randomised smoothing, over several L2 radii.

    python run.py --config configs/certify_l2.py --workdir runs/certify \
      --config.source.checkpoint=runs/svhn_l2 --config.target.dataset=tfds:svhn_cropped

Certifies the majority vote of the network over noisy copies of an image (Cohen et al., 2019): no
perturbation within the radius changes it, with an error probability of 0.001 per image. Networks
that were fine-tuned on noise of the same sigma (`transfer.perturbation=gaussian`) keep the most
accuracy: see docs/certificates.md. Choose `attack.sigma` near the radii of interest: a larger one
certifies larger radii and predicts worse.
"""

from ml_collections import ConfigDict

from rtl_jax.configs.attack_l2 import get_config as attack_l2


def get_config() -> ConfigDict:
    """Return settings with noise of 0.25, 10,000 copies (up to radius 0.8) and 100 test images."""
    config = attack_l2()
    config.target.num_test_images = 100
    config.attack.method = "smoothing"
    config.attack.sigma = 0.25
    config.attack.eps = (0.0, 0.1, 0.25, 0.5, 0.75)
    config.attack.batch_size = 128
    return config
