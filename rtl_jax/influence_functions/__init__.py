"""Influence functions: which training images caused a prediction, and which labels are wrong."""

from rtl_jax.influence_functions.conjugate import ConjugateGradient
from rtl_jax.influence_functions.curvature import empirical_fisher_curvature, hessian_curvature
from rtl_jax.influence_functions.data_values import (
    Semivalues,
    knn_shapley,
    ridge_semivalues,
    ridge_values,
)
from rtl_jax.influence_functions.head import Examples, Head
from rtl_jax.influence_functions.method import solver_for
from rtl_jax.influence_functions.pixels import Perturbed, PixelInfluence
from rtl_jax.influence_functions.scores import (
    gradient_kernel,
    influence_kernel,
    influence_scores,
    read_scores,
    score,
    self_gradient,
    self_influence,
    top_k,
)
from rtl_jax.influence_functions.solve import Cholesky, PseudoInverse, Solver
from rtl_jax.influence_functions.woodbury import Woodbury

__all__ = [
    "Cholesky",
    "ConjugateGradient",
    "Examples",
    "Head",
    "Perturbed",
    "PixelInfluence",
    "PseudoInverse",
    "Semivalues",
    "Solver",
    "Woodbury",
    "empirical_fisher_curvature",
    "gradient_kernel",
    "hessian_curvature",
    "influence_kernel",
    "influence_scores",
    "knn_shapley",
    "read_scores",
    "ridge_semivalues",
    "ridge_values",
    "score",
    "self_gradient",
    "self_influence",
    "solver_for",
    "top_k",
]
