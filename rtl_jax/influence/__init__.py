"""Influence functions: which training images made a prediction, and which labels are wrong."""

from rtl_jax.influence.conjugate import ConjugateGradient
from rtl_jax.influence.curvature import empirical_fisher_curvature, hessian_curvature
from rtl_jax.influence.head import Examples, Head
from rtl_jax.influence.scores import (
    gradient_kernel,
    influence_kernel,
    read_scores,
    score,
    self_gradient,
    self_influence,
    top_k,
)
from rtl_jax.influence.solve import Cholesky, PseudoInverse

__all__ = [
    "Cholesky",
    "ConjugateGradient",
    "Examples",
    "Head",
    "PseudoInverse",
    "empirical_fisher_curvature",
    "gradient_kernel",
    "hessian_curvature",
    "influence_kernel",
    "read_scores",
    "score",
    "self_gradient",
    "self_influence",
    "top_k",
]
