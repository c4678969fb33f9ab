"""Attacks on any JAX model: the largest loss within a ball around each image."""

from rtl_jax.attacks.adversarial import Adversarial, attack, robustness_curve
from rtl_jax.attacks.gaussian import Gaussian
from rtl_jax.attacks.network import network_logits
from rtl_jax.attacks.pgd import FGSM, PAPER_PGD1, PAPER_PGD20, PGD

__all__ = [
    "FGSM",
    "PAPER_PGD1",
    "PAPER_PGD20",
    "PGD",
    "Adversarial",
    "Gaussian",
    "attack",
    "network_logits",
    "robustness_curve",
]
