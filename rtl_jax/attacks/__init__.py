"""Attacks on any JAX model: the largest loss within a ball around each image."""

from rtl_jax.attacks.adversarial import Adversarial, attack, reevaluate, robustness_curve
from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.autoattack import AutoAttack, Evaluation, autoattack
from rtl_jax.attacks.fab import FAB
from rtl_jax.attacks.gaussian import Gaussian
from rtl_jax.attacks.pgd import FGSM, PAPER_PGD1, PAPER_PGD20, PGD
from rtl_jax.attacks.square import Square

__all__ = [
    "APGD",
    "FAB",
    "FGSM",
    "PAPER_PGD1",
    "PAPER_PGD20",
    "PGD",
    "Adversarial",
    "AutoAttack",
    "Evaluation",
    "Gaussian",
    "Square",
    "attack",
    "autoattack",
    "reevaluate",
    "robustness_curve",
]
