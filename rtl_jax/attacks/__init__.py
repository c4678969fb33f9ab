"""Attacks on any JAX model: maximise the loss within a threat model around each image."""

from rtl_jax.attacks.adversarial import (
    Adversarial,
    RobustnessCurve,
    attack,
    reevaluate,
    robustness_curve,
)
from rtl_jax.attacks.apgd import APGD
from rtl_jax.attacks.autoattack import AutoAttack, Evaluation, autoattack
from rtl_jax.attacks.base import Attack, Problem
from rtl_jax.attacks.fab import FAB
from rtl_jax.attacks.fourier import FourierPGD
from rtl_jax.attacks.gaussian import Gaussian
from rtl_jax.attacks.pgd import FGSM, PAPER_PGD1, PAPER_PGD20, PGD
from rtl_jax.attacks.registry import make_attack
from rtl_jax.attacks.square import Square
from rtl_jax.attacks.threats import L1, L2, Linf, Threat, Unconstrained

__all__ = [
    "APGD",
    "FAB",
    "FGSM",
    "L1",
    "L2",
    "PAPER_PGD1",
    "PAPER_PGD20",
    "PGD",
    "Adversarial",
    "Attack",
    "AutoAttack",
    "Evaluation",
    "FourierPGD",
    "Gaussian",
    "Linf",
    "Problem",
    "RobustnessCurve",
    "Square",
    "Threat",
    "Unconstrained",
    "attack",
    "autoattack",
    "make_attack",
    "reevaluate",
    "robustness_curve",
]
