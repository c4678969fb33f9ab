"""From the settings to a solver."""

import numpy as np

from rtl_jax.influence.conjugate import ConjugateGradient
from rtl_jax.influence.curvature import CURVATURES
from rtl_jax.influence.head import Examples, Head
from rtl_jax.influence.hessian import autodiff_hessian
from rtl_jax.influence.solve import Cholesky, PseudoInverse, Solver
from rtl_jax.lab import config


def solver_for(settings: config.Influence, head: Head, train: Examples) -> Solver:
    """The solver that the settings name, prepared with the training examples.

    Raises UserError where memory is too small or the Hessian singular.
    """
    if settings.hessian == "autodiff":
        return _of_autodiff(settings, head, train)
    curvature, limit = CURVATURES[settings.curvature](train), settings.memory_gib
    if settings.solver == "cholesky":
        return Cholesky.of(curvature, settings.damping, memory_gib=limit)
    if settings.solver == "pseudo_inverse":
        cutoff = settings.cutoff, settings.cutoff_kind
        return PseudoInverse.of(curvature, *cutoff, memory_gib=limit)
    return ConjugateGradient.of(curvature, settings.damping, tolerance=settings.tolerance)


def _of_autodiff(settings: config.Influence, head: Head, train: Examples) -> Solver:
    damped = settings.solver == "cholesky"
    matrix = autodiff_hessian(
        head,
        train,
        l2=settings.damping if damped else 0.0,
        batch_size=settings.batch_size,
        memory_gib=settings.memory_gib,
    )
    basis = np.eye(train.num_classes)
    if damped:
        return Cholesky.of_matrix(matrix, basis)
    return PseudoInverse.of_matrix(matrix, basis, settings.cutoff, settings.cutoff_kind)
